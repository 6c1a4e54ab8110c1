//! From a committed change to everybody who follows: here at once, on other orchestrators by the bus.

use super::hub::Hub;
use crate::event::RecordedEvents;
use futures::future::join;
use shared::bus::batch::{BatchOptions, Batcher};
use shared::bus::{Address, Bus, BusError, Subscription};
use shared::id::OrchestratorId;
use shared::message::{Announcement, decode, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many announcements wait to be sent to other orchestrators before some are left out. What
/// they miss their followers read from the store.
const BACKLOG: usize = 4096;

/// How long after the stop changes are still announced, at most; it ends once nobody can record any.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many messages of other orchestrators are under way to us.
const PREFETCH: u16 = 256;

/// Announces recorded changes, and hears what others announce.
pub(crate) struct Announcer {
    hub: Hub,
    bus: Arc<dyn Bus>,
    recorded: RecordedEvents,
    me: OrchestratorId,
}

impl Announcer {
    pub(crate) fn new(
        hub: Hub,
        bus: Arc<dyn Bus>,
        recorded: RecordedEvents,
        me: OrchestratorId,
    ) -> Self {
        Self {
            hub,
            bus,
            recorded,
            me,
        }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the bus refuses for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let Self {
            hub,
            bus,
            mut recorded,
            me,
        } = self;
        let others = bus.consume(Subscription::Events, PREFETCH).await?;
        let options = BatchOptions {
            backlog: BACKLOG,
            ..BatchOptions::default()
        };
        let out = Batcher::start(bus, Address::Events, options);
        let hearing = hear(others, &hub, me);
        let telling = tell(&mut recorded, &hub, &out, me);
        let _ = stop.run_until_cancelled(join(telling, hearing)).await;
        // Requests and transactions that are under way still record something: others shall hear of it.
        let rest = tell(&mut recorded, &hub, &out, me);
        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
        Ok(())
    }
}

async fn tell(
    recorded: &mut RecordedEvents,
    hub: &Hub,
    out: &Batcher<Announcement>,
    me: OrchestratorId,
) {
    while let Some(event) = recorded.recv().await {
        hub.tell(event.clone());
        if out.offer(Announcement { origin: me, event }).is_err() {
            metrics::counter!("longshore_announcements_dropped_total").increment(1);
        }
    }
}

async fn hear(mut others: shared::bus::Consumer, hub: &Hub, me: OrchestratorId) {
    let mine = begins_with(me);
    while let Some(delivery) = others.next().await {
        if delivery.body.starts_with(&mine) {
            // Our own words, which everybody here has heard.
            delivery.ack().await;
            continue;
        }
        match decode::<Announcement>(&delivery.body) {
            Ok(announcements) => {
                for announcement in announcements
                    .into_iter()
                    .filter(|announcement| announcement.origin != me)
                {
                    hub.tell(announcement.event);
                }
                delivery.ack().await;
            }
            Err(error) => {
                tracing::warn!(%error, "an announcement of another orchestrator was not understood");
                delivery.dead(&error.to_string()).await;
            }
        }
    }
}

/// How every message of this orchestrator begins: all that it carries is of one origin.
fn begins_with(me: OrchestratorId) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Origin {
        origin: OrchestratorId,
    }
    let mut begins = encode(&[Origin { origin: me }]);
    // Without what closes the item, the list and the body.
    begins.truncate(begins.len() - "}]}".len());
    begins
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::NodeId;
    use shared::message::ChangeEvent;

    #[test]
    fn ones_own_words_are_known_by_how_they_begin() {
        let me = OrchestratorId::new();
        let said = |origin| {
            let event = ChangeEvent::Node {
                node_id: NodeId::new(),
            };
            encode(&[Announcement { origin, event }])
        };
        assert!(said(me).starts_with(&begins_with(me)));
        assert!(!said(OrchestratorId::new()).starts_with(&begins_with(me)));
    }
}
