//! One recorded step of a revision.

use super::id;
use async_graphql::{ID, SimpleObject};
use chrono::{DateTime, Utc};
use shared::status::{ApplicationStatus, FailureReason};

/// One recorded step of a revision.
#[derive(Clone, SimpleObject)]
pub(crate) struct StatusEvent {
    /// The deployment.
    deployment_id: ID,
    /// The revision.
    revision_id: ID,
    /// The revision's number within its deployment, from 1.
    revision: i32,
    /// The attempt that the step belongs to.
    epoch: i32,
    /// Rises by one with each step of the revision, from 1.
    seq: i32,
    /// Where the revision stands since this step.
    status: ApplicationStatus,
    /// Why, when it failed.
    failure_reason: Option<FailureReason>,
    /// What a person should know.
    detail: Option<String>,
    /// When, by the clock of whoever saw it.
    at: DateTime<Utc>,
}

impl From<&shared::message::StatusEvent> for StatusEvent {
    fn from(event: &shared::message::StatusEvent) -> Self {
        Self {
            deployment_id: id(event.deployment_id),
            revision_id: id(event.revision_id),
            revision: event.revision,
            epoch: event.epoch,
            seq: event.seq,
            status: event.status,
            failure_reason: event.failure_reason,
            detail: event.detail.clone(),
            at: event.at,
        }
    }
}
