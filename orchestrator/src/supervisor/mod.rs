//! What has to happen when nothing happens: silent nodes are lost, cancels that nobody answers are
//! settled, reports whose predecessors are lost are applied.

use crate::event::{EventSink, Wake};
use crate::store::{Store, StoreError};
use shared::bus::{Bus, BusHealth};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// A node that is silent for longer is lost: four heartbeats and a little.
pub(crate) const NODE_SILENCE: Duration = Duration::from_secs(20);
/// How long a node may take to take a cancel, before it is settled without it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);
/// How long a report waits for its predecessor.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// How often to look.
const ROUND: Duration = Duration::from_secs(1);

/// Looks after what is silent.
pub(crate) struct Supervisor {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
}

impl Supervisor {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listening = Listening::new();
        let mut was_well = true;
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            let may_judge = listening.long_enough(*self.bus.health().borrow() == BusHealth::Up);
            let round = self.round(may_judge).await;
            if let Err(error) = &round
                && was_well
            {
                // Said once; what fails is tried again each round.
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "the database does not answer; trying again"
                );
            }
            if round.is_err() {
                // Heartbeats could not be recorded meanwhile: silence proves nothing.
                listening.interrupted();
            } else if !was_well {
                tracing::info!("the database answers again");
            }
            was_well = round.is_ok();
        }
    }

    async fn round(&self, may_judge: bool) -> Result<(), StoreError> {
        if may_judge {
            let lost = self.store.nodes_mark_lost(NODE_SILENCE).await?;
            if !lost.is_empty() {
                for node in &lost {
                    tracing::warn!(node.id = %node, "a node is lost: no heartbeat for {} s", NODE_SILENCE.as_secs());
                }
                metrics::counter!("longshore_nodes_lost_total").increment(lost.len() as u64);
                self.events.nodes(lost);
                self.wake.mover.notify_one();
            }
        }
        shared::fail_point!("orchestrator::supervise::in_round");
        let applied = self.store.reports_sweep(REPORT_PATIENCE).await?;
        let settled = self.store.cancels_settle(CANCEL_PATIENCE).await?;
        if !applied.steps.is_empty() || !settled.is_empty() {
            self.wake.dispatcher.notify_one();
            self.wake.publisher.notify_one();
        }
        self.events.steps(applied.steps);
        self.events.steps(settled);
        Ok(())
    }
}

/// For how long heartbeats could have been heard and recorded here. A node's silence counts only
/// while somebody listened.
struct Listening {
    since: Option<Instant>,
}

impl Listening {
    fn new() -> Self {
        Self { since: None }
    }

    /// Takes note of whether the bus is there; whether silence proves something by now.
    fn long_enough(&mut self, bus_is_up: bool) -> bool {
        if !bus_is_up {
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() > NODE_SILENCE
    }

    fn interrupted(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_only_while_somebody_listened() {
        let mut listening = Listening::new();
        assert!(!listening.long_enough(true));
        tokio::time::advance(NODE_SILENCE + ROUND).await;
        assert!(listening.long_enough(true));
        assert!(!listening.long_enough(false), "the bus is away");
        assert!(!listening.long_enough(true), "and has only just come back");
        tokio::time::advance(NODE_SILENCE + ROUND).await;
        listening.interrupted();
        assert!(!listening.long_enough(true));
    }
}
