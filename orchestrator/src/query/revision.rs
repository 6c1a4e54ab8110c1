//! Reading revisions and their recorded steps.

use super::Queries;
use super::cursor::{Page, PageOf, encode, page_of};
use crate::error::CommandError;
use crate::store::StoreError;
use crate::store::column::Time;
use crate::store::entity::{revision, revision_event};
use crate::view::RevisionView;
use sea_orm::{ColumnTrait, DerivePartialModel, EntityTrait, QueryFilter};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::status::{ApplicationStatus, FailureReason, RevisionCause};
use std::collections::HashMap;

/// Marks cursors of this list.
const CURSOR: u8 = b'r';
/// How many steps of a revision are read at most.
const EVENTS_SHOWN: i32 = 500;

/// A revision without its documents.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "revision::Entity")]
struct Row {
    id: RevisionId,
    deployment_id: DeploymentId,
    number: i32,
    status: ApplicationStatus,
    failure_reason: Option<FailureReason>,
    status_detail: Option<String>,
    source_version: Option<String>,
    content_hash: Option<String>,
    epoch: i32,
    node_id: Option<NodeId>,
    cause: RevisionCause,
    created_at: Time,
    updated_at: Time,
}

/// Revisions, each with its place among those of its deployment; more conditions follow.
const PLACED: &str = "SELECT r.* FROM (SELECT id, deployment_id, number, status, failure_reason, status_detail, source_version, \
                      content_hash, epoch, node_id, cause, created_at, updated_at, \
                      ROW_NUMBER() OVER (PARTITION BY deployment_id ORDER BY number DESC) AS place FROM revisions WHERE number > 0";

impl Queries {
    /// A revision by its id.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn revision_by_id(
        &self,
        id: RevisionId,
    ) -> Result<Option<RevisionView>, CommandError> {
        let mut found = self.revisions_by_ids(&[id]).await?;
        Ok(found.remove(&id))
    }

    /// Revisions by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn revisions_by_ids(
        &self,
        ids: &[RevisionId],
    ) -> Result<HashMap<RevisionId, RevisionView>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let these =
            revision::Entity::find().filter(revision::Column::Id.is_in(ids.iter().copied()));
        let rows: Vec<Row> = these
            .into_partial_model()
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(|row| (row.id, view(row))).collect())
    }

    /// A page of a deployment's revisions, newest first.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size or cursor that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn revisions_page(
        &self,
        deployment: DeploymentId,
        page: &Page,
    ) -> Result<PageOf<RevisionView>, CommandError> {
        let mut pages = self.revisions_pages(&[deployment], page).await?;
        Ok(pages.remove(&deployment).unwrap_or_else(PageOf::empty))
    }

    /// The same page of the revisions of each of these deployments, newest first; those that have no
    /// revision on it are absent.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size or cursor that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn revisions_pages(
        &self,
        deployments: &[DeploymentId],
        page: &Page,
    ) -> Result<HashMap<DeploymentId, PageOf<RevisionView>>, CommandError> {
        let size = page.size()?;
        let before = page.position(CURSOR)?.map_or(i32::MAX, i32::from_be_bytes);
        if deployments.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<Row> = self
            .store
            .sql(PLACED)
            .push(" AND number < ")
            .bind(before)
            .push(" AND deployment_id")
            .one_of(deployments.iter().copied())
            .push(") r WHERE place <= ")
            .bind(i64::try_from(size + 1).unwrap_or(i64::MAX))
            .push(" ORDER BY deployment_id, number DESC")
            .all(self.store.reader())
            .await?;
        let mut of_each: HashMap<DeploymentId, Vec<RevisionView>> = HashMap::new();
        for row in rows {
            of_each
                .entry(row.deployment_id)
                .or_default()
                .push(view(row));
        }
        let cursor = |revision: &RevisionView| encode(CURSOR, &revision.number.to_be_bytes());
        let pages = of_each
            .into_iter()
            .map(|(id, revisions)| (id, page_of(revisions, size, cursor)));
        Ok(pages.collect())
    }

    /// The recorded steps of these revisions, in order; of each the newest five hundred, since one
    /// that crashes and recovers may have any number.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn events_of(
        &self,
        ids: &[RevisionId],
    ) -> Result<HashMap<RevisionId, Vec<StatusEvent>>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<revision_event::Model> = self
            .store
            .sql("SELECT e.* FROM revision_events e JOIN revisions r ON r.id = e.revision_id WHERE e.seq > r.last_event_seq - ")
            .bind(EVENTS_SHOWN)
            .push(" AND e.revision_id")
            .one_of(ids.iter().copied())
            .push(" ORDER BY e.revision_id, e.seq")
            .all(self.store.reader())
            .await?;
        let mut events: HashMap<RevisionId, Vec<StatusEvent>> = HashMap::new();
        for row in rows {
            events.entry(row.revision_id).or_default().push(event(row));
        }
        Ok(events)
    }
}

fn view(row: Row) -> RevisionView {
    RevisionView {
        id: row.id,
        deployment_id: row.deployment_id,
        number: row.number,
        status: row.status,
        failure_reason: row.failure_reason,
        status_detail: row.status_detail,
        source_version: row.source_version,
        content_hash: row.content_hash,
        epoch: row.epoch,
        node_id: row.node_id,
        cause: row.cause,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn event(row: revision_event::Model) -> StatusEvent {
    StatusEvent {
        deployment_id: row.deployment_id,
        revision_id: row.revision_id,
        revision: row.revision,
        epoch: row.epoch,
        seq: row.seq,
        status: row.status,
        failure_reason: row.failure_reason,
        detail: row.detail,
        at: row.at,
    }
}
