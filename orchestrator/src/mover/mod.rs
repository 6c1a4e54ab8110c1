//! Moves deployments away from nodes that are lost or being drained, and lets be what needs no moving
//! any longer.

use crate::event::{EventSink, Wake};
use crate::store::{Store, StoreError};
use shared::id::RevisionId;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many deployments are looked at in one transaction.
const BATCH: u64 = 200;
/// The least time between two looks: what wakes this loop may come with every report.
const PAUSE: Duration = Duration::from_secs(1);
/// How long until a look without a wake-up: also for tries that are to be repeated after a pause.
const SWEEP: Duration = Duration::from_secs(10);

/// Moves deployments.
pub(crate) struct Mover {
    pub(crate) store: Store,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
}

impl Mover {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.round().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deployments of lost nodes could not be looked at; trying again"
                );
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(PAUSE))
                .await
                .is_none()
            {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.wake.mover.notified() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), StoreError> {
        self.events.steps(self.store.moves_settle().await?);
        let mut after: Option<RevisionId> = None;
        loop {
            let moves = self.store.tenants_move(after, BATCH).await?;
            if !moves.steps.is_empty() {
                // What was made waits for a node.
                self.wake.dispatcher.notify_one();
            }
            metrics::counter!("longshore_revisions_moved_total").increment(moves.made as u64);
            self.events.steps(moves.steps);
            after = moves.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
