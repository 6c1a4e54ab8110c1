//! What people may follow: status events, node changes, build logs, service logs.
//!
//! Following is fed by hints, not by the truth: what a follower missed it finds in the store.

mod announcer;
mod build_log;
mod hub;
mod service_log;

pub(crate) use announcer::Announcer;
pub(crate) use hub::Hub;

use crate::error::CommandError;
use crate::query::Queries;
use crate::store::Store;
use chrono::{DateTime, Utc};
use futures::Stream;
use futures::stream::BoxStream;
use service_log::{Means, Wish};
use shared::bus::Bus;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::name::ServiceName;
use shared::status::LogStream;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

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
    store: Store,
    queries: Queries,
    bus: Arc<dyn Bus>,
    hub: Hub,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn new(store: Store, bus: Arc<dyn Bus>) -> Self {
        Self {
            queries: Queries::new(store.clone()),
            store,
            bus,
            hub: Hub::new(),
        }
    }

    /// Where the loops say what happened.
    pub(crate) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Status events from now on: of one deployment, or of all.
    pub fn status_events(
        &self,
        deployment: Option<DeploymentId>,
    ) -> impl Stream<Item = Result<Arc<StatusEvent>, Lagged>> + Send + 'static + use<> {
        let is_wanted =
            move |event: &Arc<StatusEvent>| deployment.is_none_or(|id| event.deployment_id == id);
        from_now_on(self.hub.statuses(), is_wanted)
    }

    /// Nodes whose rows changed, from now on.
    pub fn node_changes(
        &self,
    ) -> impl Stream<Item = Result<NodeId, Lagged>> + Send + 'static + use<> {
        from_now_on(self.hub.nodes(), |_| true)
    }

    /// A revision's build log: from its first line, then live, until it is complete.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] for an unknown revision; [`CommandError::Unavailable`].
    pub async fn build_log(
        &self,
        revision_id: RevisionId,
    ) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
        build_log::follow(
            self.store.clone(),
            self.queries.clone(),
            &self.hub,
            revision_id,
        )
        .await
    }

    /// What a deployment's services print: the last `tail` lines, then live, until the reader goes away.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] for an unknown deployment or service; [`CommandError::Conflict`]
    /// when nothing of it is placed on a node; [`CommandError::Unavailable`].
    pub async fn service_log(
        &self,
        deployment_id: DeploymentId,
        service: Option<String>,
        tail: u32,
    ) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
        let service = service.map(|name| {
            ServiceName::parse(&name).map_err(|_| CommandError::not_found("service", name))
        });
        let wish = Wish {
            deployment_id,
            service: service.transpose()?,
            tail,
        };
        let means = Means {
            hub: self.hub.clone(),
            bus: Arc::clone(&self.bus),
            queries: self.queries.clone(),
            store: self.store.incarnation(),
        };
        service_log::follow(means, wish).await
    }
}

/// What is told from now on and wanted, until the hub goes away.
fn from_now_on<T: Clone + Send + 'static>(
    receiver: broadcast::Receiver<T>,
    is_wanted: impl Fn(&T) -> bool + Send + 'static,
) -> impl Stream<Item = Result<T, Lagged>> + Send + 'static {
    futures::stream::unfold(
        (receiver, is_wanted),
        |(mut receiver, is_wanted)| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) if is_wanted(&event) => {
                        return Some((Ok(event), (receiver, is_wanted)));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => {
                        return Some((Err(Lagged { missed }), (receiver, is_wanted)));
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    )
}
