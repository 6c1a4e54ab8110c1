//! What people may follow: status events, node changes, build logs, service logs.

use crate::error::CommandError;
use crate::store::Store;
use chrono::{DateTime, Utc};
use futures::Stream;
use futures::stream::BoxStream;
use shared::bus::Bus;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::status::LogStream;
use std::sync::Arc;

/// A subscriber was too slow and missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed {missed} events: read the present state and subscribe again")]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// One line of a build log or service log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLineView {
    /// Rises by one with each line of the log, from 1.
    pub seq: i64,
    /// When, by the node's clock.
    pub at: DateTime<Utc>,
    /// Where it came from.
    pub stream: LogStream,
    /// The service that printed it, in a service log.
    pub service: Option<String>,
    /// The line without its end.
    pub text: String,
}

/// What people may follow. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    _store: Store,
    _bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(store: Store, bus: Arc<dyn Bus>) -> Self {
        Self { _store: store, _bus: bus }
    }

    /// Status events from now on: of one deployment, or of all.
    pub fn status_events(
        &self,
        _deployment: Option<DeploymentId>,
    ) -> impl Stream<Item = Result<Arc<StatusEvent>, Lagged>> + Send + 'static + use<> {
        futures::stream::pending()
    }

    /// Nodes whose rows changed, from now on.
    pub fn node_changes(&self) -> impl Stream<Item = Result<NodeId, Lagged>> + Send + 'static + use<> {
        futures::stream::pending()
    }

    /// A revision's build log: from its first line, then live, until it is complete.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] for an unknown revision; [`CommandError::Unavailable`].
    pub async fn build_log(&self, revision_id: RevisionId) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
        Err(CommandError::not_found("revision", revision_id))
    }

    /// What a deployment's services print: the last `tail` lines, then live, until the reader goes away.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] for an unknown deployment or service; [`CommandError::Conflict`]
    /// when nothing of it is placed on a node; [`CommandError::Unavailable`].
    pub async fn service_log(
        &self,
        deployment_id: DeploymentId,
        _service: Option<String>,
        _tail: u32,
    ) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
        Err(CommandError::not_found("deployment", deployment_id))
    }
}
