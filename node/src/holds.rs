//! Saying what this node holds and works on: it renews the leases of that work. Work that the node
//! lost, or never took, is not among it, and its lease ends.

use crate::core::Core;
use shared::bus::{Address, Bus};
use shared::id::WorkId;
use shared::message::{Holds, TelemetryItem, TelemetryTopic, encode};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The time between two times that it is said, and how long work has been there before it is said
/// at all: most is done by then.
const EVERY: Duration = Duration::from_secs(10);

/// The most work requests of one message.
const PART: usize = 2000;

/// Says it until the node stops. What the bus does not take is not sent again: a lease outlives
/// some that are lost.
pub(crate) async fn run(core: Arc<Core>, bus: Arc<dyn Bus>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What an earlier process accepted has been there for long enough.
    let mut seen: HashSet<WorkId> = unfinished(&core).into_iter().collect();
    while core.stop.run_until_cancelled(tick.tick()).await.is_some() {
        let held = unfinished(&core);
        for part in parts(&seen, &held) {
            let item = TelemetryItem::Holds(Holds {
                node: core.settings.name.clone(),
                work: part,
            });
            let address = Address::Telemetry(TelemetryTopic::Heartbeat);
            let said = bus.publish(address, encode(&[item]));
            match core.stop.run_until_cancelled(said).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "what this node holds was not taken"),
            }
        }
        seen = held.into_iter().collect();
    }
}

fn unfinished(core: &Core) -> Vec<WorkId> {
    core.journal
        .read(|state| state.unfinished().map(|entry| entry.request.id).collect())
}

/// What was there at the look before as well, in parts.
fn parts(seen: &HashSet<WorkId>, held: &[WorkId]) -> Vec<Vec<WorkId>> {
    let old: Vec<WorkId> = held
        .iter()
        .copied()
        .filter(|id| seen.contains(id))
        .collect();
    old.chunks(PART).map(<[WorkId]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_before_is_said_in_bounded_parts() {
        let held: Vec<WorkId> = (0..PART + 2).map(|_| WorkId::new()).collect();
        assert!(parts(&HashSet::new(), &held).is_empty());
        let seen: HashSet<WorkId> = held.iter().copied().skip(1).collect();
        let said = parts(&seen, &held);
        assert_eq!(said.iter().map(Vec::len).collect::<Vec<_>>(), [PART, 1]);
        assert!(!said.concat().contains(&held[0]));
    }
}
