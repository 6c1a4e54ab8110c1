//! What has to happen when nothing happens: silent nodes are lost, orders that nobody is at are taken
//! back, cancels that nobody answers are settled, reports whose predecessors are lost are applied.

use crate::event::{EventSink, Wake};
use crate::store::{Store, StoreError, WORK_LEASE};
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
            let heard_for = listening.heard_for(*self.bus.health().borrow() == BusHealth::Up);
            let round = self.round(heard_for).await;
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

    async fn round(&self, heard_for: Duration) -> Result<(), StoreError> {
        if heard_for > NODE_SILENCE {
            self.mark_lost().await?;
        }
        self.take_back(heard_for <= WORK_LEASE).await?;
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

    async fn mark_lost(&self) -> Result<(), StoreError> {
        let lost = self.store.nodes_mark_lost(NODE_SILENCE).await?;
        if lost.is_empty() {
            return Ok(());
        }
        for node in &lost {
            tracing::warn!(node.id = %node, "a node is lost: no heartbeat for {} s", NODE_SILENCE.as_secs());
        }
        metrics::counter!("longshore_nodes_lost_total").increment(lost.len() as u64);
        self.events.nodes(lost);
        self.wake.mover.notify_one();
        Ok(())
    }

    /// What a node is not at, others are given, or the same again.
    async fn take_back(&self, only_lost: bool) -> Result<(), StoreError> {
        loop {
            let taken_back = self.store.work_expire(only_lost).await?;
            if taken_back.sent_again > 0 {
                tracing::warn!(
                    orders = taken_back.sent_again,
                    "orders that nobody is at are sent again"
                );
                self.wake.publisher.notify_one();
            }
            if !taken_back.steps.is_empty() {
                metrics::counter!("longshore_leases_expired_total")
                    .increment(taken_back.steps.len() as u64);
                self.wake.dispatcher.notify_one();
                self.wake.assigner.notify_one();
                self.events.steps(taken_back.steps);
            }
            if !taken_back.more {
                return Ok(());
            }
        }
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

    /// Takes note of whether the bus is there; silence of less than this proves nothing.
    fn heard_for(&mut self, bus_is_up: bool) -> Duration {
        if !bus_is_up {
            self.since = None;
            return Duration::ZERO;
        }
        self.since.get_or_insert_with(Instant::now).elapsed()
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
        assert_eq!(listening.heard_for(true), Duration::ZERO);
        tokio::time::advance(NODE_SILENCE + ROUND).await;
        assert_eq!(listening.heard_for(true), NODE_SILENCE + ROUND);
        let away = listening.heard_for(false);
        assert_eq!(away, Duration::ZERO, "the bus is away");
        let back = listening.heard_for(true);
        assert_eq!(back, Duration::ZERO, "and has only just come back");
        tokio::time::advance(NODE_SILENCE + ROUND).await;
        listening.interrupted();
        assert_eq!(listening.heard_for(true), Duration::ZERO);
    }
}
