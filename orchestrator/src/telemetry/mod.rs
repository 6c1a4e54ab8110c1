//! What nodes say in passing: heartbeats become node rows, log lines go to the store and to readers.
//!
//! Two consumers, so that no flood of log lines delays a heartbeat.

mod heartbeats;
mod logs;

use crate::event::{EventSink, Wake};
use crate::store::Store;
use crate::watch::Hub;
use futures::future::join;
use shared::bus::{Bus, BusError, Consumer, Delivery, Subscription};
use shared::message::{TelemetryItem, TelemetryTopic, decode};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How many messages are under way to us, and the most that are taken together.
const PREFETCH: u16 = 64;

/// The loops that take telemetry in.
pub(crate) struct Telemetry {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) hub: Hub,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
}

impl Telemetry {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the bus refuses for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let beats = self
            .bus
            .consume(
                Subscription::Telemetry(vec![TelemetryTopic::Heartbeat]),
                PREFETCH,
            )
            .await?;
        let lines = self
            .bus
            .consume(Subscription::Telemetry(vec![TelemetryTopic::Log]), PREFETCH)
            .await?;
        // On the heap: together they are larger than a task's frame should be.
        let heartbeats = Box::pin(heartbeats::run(&self, beats));
        let logs = Box::pin(logs::run(&self, lines));
        let _ = stop.run_until_cancelled(join(heartbeats, logs)).await;
        Ok(())
    }
}

/// Waits for a message and takes what else is there; nothing once the bus is closed.
///
/// Telemetry is transient: it is acknowledged as soon as it is here.
async fn take(consumer: &mut Consumer) -> Option<Vec<TelemetryItem>> {
    let mut items = open(consumer.next().await?).await;
    for _ in 1..PREFETCH {
        let Some(delivery) = consumer.try_next() else {
            break;
        };
        items.extend(open(delivery).await);
    }
    Some(items)
}

async fn open(delivery: Delivery) -> Vec<TelemetryItem> {
    match decode(&delivery.body) {
        Ok(items) => {
            delivery.ack().await;
            items
        }
        Err(error) => {
            tracing::warn!(%error, "telemetry that was not understood");
            delivery.dead(&error.to_string()).await;
            Vec::new()
        }
    }
}
