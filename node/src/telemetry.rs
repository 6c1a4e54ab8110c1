//! Sending log lines: whatever came within a moment travels together, and nothing waits for it.

use crate::backoff::Backoff;
use shared::bus::{Address, Bus};
use shared::message::{TelemetryItem, TelemetryTopic, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many items travel in one message: with lines of 8 KiB, every byte of which may need a
/// backslash in JSON, they stay below the largest body.
const BATCH: usize = 192;

/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(3);

/// Sends items until the node stops.
///
/// While the bus is away the last batch is kept and tried again, and the queue before it fills; who
/// writes a line then counts it as left out.
pub(crate) async fn run(
    mut items: mpsc::Receiver<TelemetryItem>,
    bus: Arc<dyn Bus>,
    stop: CancellationToken,
) {
    let mut batch = Vec::new();
    while stop
        .run_until_cancelled(items.recv_many(&mut batch, BATCH))
        .await
        .is_some_and(|count| count > 0)
    {
        if batch.len() < BATCH {
            tokio::time::sleep(LINGER).await;
            while batch.len() < BATCH
                && let Ok(item) = items.try_recv()
            {
                batch.push(item);
            }
        }
        if stop
            .run_until_cancelled(send(&*bus, &batch))
            .await
            .is_none()
        {
            break;
        }
        batch.clear();
    }
    while batch.len() < BATCH
        && let Ok(item) = items.try_recv()
    {
        batch.push(item);
    }
    if !batch.is_empty() {
        // The last words of a node that stops: tried once.
        let _ = tokio::time::timeout(Duration::from_secs(1), publish(&*bus, &batch)).await;
    }
}

async fn send(bus: &dyn Bus, batch: &[TelemetryItem]) {
    let mut pause = Backoff::default();
    while let Err(error) = publish(bus, batch).await {
        if !error.is_transient() {
            tracing::warn!(%error, lines = batch.len(), "log lines are lost");
            return;
        }
        pause.wait().await;
    }
}

async fn publish(bus: &dyn Bus, batch: &[TelemetryItem]) -> Result<(), shared::bus::BusError> {
    bus.publish(Address::Telemetry(TelemetryTopic::Log), encode(batch))
        .await
}
