//! One immutable version of a deployment.

use super::deployment::node_of;
use super::{Node, StatusEvent, id};
use crate::error::{ApiError, Maybe};
use crate::loader::{EventsOf, load};
use crate::page::{connection, list_price};
use async_graphql::{Context, ID, Object};
use chrono::{DateTime, Utc};
use orchestrator::view::RevisionView;
use shared::status::{ApplicationStatus, FailureReason, RevisionCause};

/// One immutable version of a deployment.
#[derive(Clone)]
pub(crate) struct Revision {
    view: RevisionView,
}

impl From<RevisionView> for Revision {
    fn from(view: RevisionView) -> Self {
        Self { view }
    }
}

/// One immutable version of a deployment.
#[Object]
impl Revision {
    /// Its identity.
    async fn id(&self) -> ID {
        id(self.view.id)
    }

    /// Its deployment.
    async fn deployment_id(&self) -> ID {
        id(self.view.deployment_id)
    }

    /// Its number within the deployment, from 1.
    async fn number(&self) -> i32 {
        self.view.number
    }

    /// Where it stands.
    async fn status(&self) -> ApplicationStatus {
        self.view.status
    }

    /// Why it failed, when it did.
    async fn failure_reason(&self) -> Option<FailureReason> {
        self.view.failure_reason
    }

    /// What a person should know: what it waits for, what went wrong, the last lines of a container.
    async fn status_detail(&self) -> Option<&str> {
        self.view.status_detail.as_deref()
    }

    /// What it was made for.
    async fn cause(&self) -> RevisionCause {
        self.view.cause
    }

    /// The commit or image digest, once it is known.
    async fn source_version(&self) -> Option<&str> {
        self.view.source_version.as_deref()
    }

    /// SHA-256 of everything that decides what runs, in hexadecimal, once it is known.
    async fn content_hash(&self) -> Option<&str> {
        self.view.content_hash.as_deref()
    }

    /// The attempt; 0 before the first.
    async fn epoch(&self) -> i32 {
        self.view.epoch
    }

    /// The node that it is placed on; none before it is placed.
    async fn node(&self, ctx: &Context<'_>) -> Maybe<Node> {
        node_of(ctx, self.view.node_id).await
    }

    /// Its recorded steps, in order.
    #[graphql(complexity = "list_price(child_complexity)")]
    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<StatusEvent>, ApiError> {
        let events = load(ctx, EventsOf(self.view.id)).await?.unwrap_or_default();
        Ok(events.iter().map(StatusEvent::from).collect())
    }

    /// When it was asked for.
    async fn created_at(&self) -> DateTime<Utc> {
        self.view.created_at
    }

    /// When something about it last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.view.updated_at
    }
}

connection! {
    /// A page of a deployment's revisions.
    RevisionConnection,
    /// A revision on a page.
    RevisionEdge,
    Revision
}
