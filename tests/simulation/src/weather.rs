//! What fails now, for everybody.

use crate::scenario::Chaos;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One process of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// An orchestrator, by its number.
    Orchestrator(usize),
    /// A node, by its number.
    Node(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Orchestrator(number) => write!(f, "orchestrator-{number}"),
            Self::Node(number) => write!(f, "node-{number}"),
        }
    }
}

/// What fails now.
#[derive(Debug, Default)]
pub(crate) struct Weather(Mutex<Sky>);

/// What fails now.
#[derive(Debug, Default)]
pub(crate) struct Sky {
    /// How often things go wrong by themselves; never in peace.
    pub(crate) chaos: Chaos,
    /// The database does not answer.
    pub(crate) database_is_away: bool,
    /// Nodes whose disk is full.
    pub(crate) full_disks: BTreeSet<Who>,
}

impl Weather {
    pub(crate) fn sky(&self) -> MutexGuard<'_, Sky> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Peace: nothing fails from now on.
    pub(crate) fn clear(&self) {
        *self.sky() = Sky::default();
    }
}
