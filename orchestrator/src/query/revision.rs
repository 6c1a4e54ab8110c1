//! Reading revisions and their recorded steps.

use super::Queries;
use super::cursor::{Page, PageOf};
use crate::error::CommandError;
use crate::view::RevisionView;
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use std::collections::HashMap;

impl Queries {
    /// A revision by its id.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn revision_by_id(&self, id: RevisionId) -> Result<Option<RevisionView>, CommandError> {
        let mut found = self.revisions_by_ids(&[id]).await?;
        Ok(found.remove(&id))
    }

    /// Revisions by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn revisions_by_ids(&self, _ids: &[RevisionId]) -> Result<HashMap<RevisionId, RevisionView>, CommandError> {
        Ok(HashMap::new())
    }

    /// A page of a deployment's revisions, newest first.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size or cursor that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn revisions_page(&self, _deployment: DeploymentId, page: &Page) -> Result<PageOf<RevisionView>, CommandError> {
        page.size()?;
        Ok(PageOf { edges: Vec::new(), has_next_page: false })
    }

    /// The recorded steps of these revisions, in order.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn events_of(&self, _ids: &[RevisionId]) -> Result<HashMap<RevisionId, Vec<StatusEvent>>, CommandError> {
        Ok(HashMap::new())
    }
}
