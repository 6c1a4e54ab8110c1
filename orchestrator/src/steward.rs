//! Looks after the fleet's nodes as such: removes the queues of those that left, tells when a drain has
//! come to its deadline, ends what waits for a node that left, counts.

use crate::event::{EventSink, Wake};
use crate::store::{Store, StoreError};
use shared::bus::Bus;
use shared::name::NodeName;
use shared::status::NodeStatus;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often to look.
const ROUND: Duration = Duration::from_secs(10);
/// For how long the queue of a node that left is seen to: it goes at once, or once the broker is back.
const QUEUES_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Looks after nodes.
pub(crate) struct Steward {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
}

impl Steward {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut gone = BTreeSet::new();
        while !stop.is_cancelled() {
            if let Err(error) = self.round(&mut gone).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "nodes could not be looked after; trying again"
                );
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.wake.steward.notified() => {}
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    }

    async fn round(&self, gone: &mut BTreeSet<NodeName>) -> Result<(), StoreError> {
        // Twice the round: said twice rather than not at all.
        self.events.nodes(self.store.drains_ended(2 * ROUND).await?);
        self.count().await?;
        self.events.steps(self.store.left_behind_settle().await?);
        self.events.steps(self.store.left_stopped_settle().await?);
        let removed: BTreeSet<NodeName> = self
            .store
            .nodes_removed(QUEUES_FOR)
            .await?
            .into_iter()
            .collect();
        // One that came back may leave again.
        gone.retain(|name| removed.contains(name));
        for name in removed {
            if gone.contains(&name) {
                continue;
            }
            match self.bus.delete_work_queue(&name).await {
                Ok(()) => {
                    gone.insert(name);
                }
                Err(error) => {
                    tracing::warn!(node.name = %name, %error, "the work queue of node {name}, which was removed, is deleted later");
                }
            }
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), StoreError> {
        let counts = self.store.nodes_count().await?;
        for status in NodeStatus::ALL {
            let count = counts.get(status).copied().unwrap_or(0);
            metrics::gauge!("longshore_nodes", "status" => status.as_str()).set(count as f64);
        }
        Ok(())
    }
}
