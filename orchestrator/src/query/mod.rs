//! What people may read. Everything that a list needs is read in batches: no query per row.

mod assemble;
mod belongings;
mod cursor;
mod dead_letter;
mod deployment;
mod node;
mod revision;

pub use cursor::{DEFAULT_PAGE, Edge, LARGEST_PAGE, Page, PageOf};
pub use deployment::{DeploymentFilter, LabelFilter};

use crate::store::Store;

/// What people may read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queries {
    store: Store,
}

impl Queries {
    /// Queries on a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}
