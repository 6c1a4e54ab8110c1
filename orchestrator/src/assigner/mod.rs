//! Tells each node the whole picture of what it should have: when it comes, every minute, and
//! whenever something suggests that it has another one.

use crate::event::Wake;
use crate::store::{Store, StoreError};
use futures::future::join_all;
use rand::Rng;
use shared::bus::{Address, Bus, BusError, BusHealth};
use shared::message::{Assignments, BODY_LIMIT, WorkItem, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many nodes are told at once: their pictures are in memory together.
const BATCH: u64 = 50;
/// How long until a look without a wake-up: most pictures are due by the clock.
const LOOK: Duration = Duration::from_secs(1);
/// After the bus was away, all nodes are told within this time.
const SPREAD: Duration = Duration::from_secs(10);
/// By how much the minute between two pictures of a node is stretched or shortened at most.
const JITTER: f64 = 0.15;

/// Tells nodes the whole picture.
pub(crate) struct Assigner {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) wake: Arc<Wake>,
}

impl Assigner {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut health = self.bus.health();
        let mut was_up = *health.borrow_and_update() == BusHealth::Up;
        while !stop.is_cancelled() {
            let is_up = *health.borrow_and_update() == BusHealth::Up;
            let round = async {
                if is_up && !was_up {
                    // What nodes were told meanwhile may be lost, and what they said of it.
                    self.store.assignments_due_all(SPREAD).await?;
                }
                if is_up { self.tell_due().await } else { Ok(()) }
            };
            match round.await {
                Ok(()) => was_up = is_up,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "nodes could not be told what they should have; trying again"
                ),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.wake.assigner.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn tell_due(&self) -> Result<(), StoreError> {
        loop {
            let jitter = shared::chance::rng().random_range(1.0 - JITTER..=1.0 + JITTER);
            let nodes = self.store.assignments_claim(BATCH, jitter).await?;
            let pictures = self.store.assignments(&nodes).await?;
            join_all(pictures.into_iter().map(|picture| self.tell(picture))).await;
            if (nodes.len() as u64) < BATCH {
                return Ok(());
            }
        }
    }

    /// One that does not arrive is no loss: another one follows, soon to who waits for it.
    async fn tell(&self, picture: Assignments) {
        let node = picture.node.clone();
        let revisions = picture.revisions.len();
        let body = encode(&[WorkItem::Assignments(Box::new(picture))]);
        if body.len() > BODY_LIMIT {
            tracing::error!(node.name = %node, revisions, "node {node} has more than fits into one picture; it is not compared");
            return;
        }
        match self.bus.publish(Address::Work(node.clone()), body).await {
            Ok(()) => metrics::counter!("longshore_assignments_told_total").increment(1),
            Err(error) => {
                tracing::warn!(node.name = %node, %error, "node {node} was not told what it should have; it is told later");
                if matches!(error, BusError::Unroutable { .. })
                    && let Err(error) = self.bus.declare_work_queue(&node).await
                {
                    tracing::warn!(node.name = %node, %error, "the work queue of node {node} could not be declared");
                }
            }
        }
    }
}
