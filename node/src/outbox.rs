//! Sending reports: in order, again until the bus has them, and only then forgotten.

use crate::backoff::Backoff;
use crate::core::Core;
use shared::bus::{Address, Bus};
use shared::message::{NodeReport, encode};
use std::sync::Arc;
use std::time::Duration;

/// How many reports travel in one message. Each has at most 16 KiB of detail and a spec, so that
/// this many stay below the largest body.
const BATCH: usize = 32;

/// Sends what the journal holds until the node stops, and then what is left, for a short while.
pub(crate) async fn run(core: Arc<Core>, bus: Arc<dyn Bus>) {
    let mut safe = core.journal.durable_reports();
    let mut pause = Backoff::default();
    loop {
        safe.borrow_and_update();
        let sent = core.stop.run_until_cancelled(send_all(&core, &*bus)).await;
        match sent {
            None => break,
            Some(Ok(())) => {
                pause.reset();
                tokio::select! {
                    () = core.stop.cancelled() => break,
                    changed = safe.changed() => if changed.is_err() { return },
                }
            }
            Some(Err(error)) => {
                tracing::warn!(%error, unsent = core.journal.read(|state| state.unsent_count()), "reports are kept until the bus takes them");
                let _ = core.stop.run_until_cancelled(pause.wait()).await;
            }
        }
    }
}

/// What the last actions said while the node was stopping. What does not go out now goes out after
/// the next start.
pub(crate) async fn flush(core: &Core, bus: &dyn Bus) {
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), send_all(core, bus)).await
    {
        tracing::debug!(%error, "reports are kept for the next start");
    }
}

async fn send_all(core: &Core, bus: &dyn Bus) -> Result<(), shared::bus::BusError> {
    loop {
        let batch = core.journal.unsent(BATCH);
        let Some((last, _)) = batch.last() else {
            return Ok(());
        };
        let until = last + 1;
        let reports: Vec<NodeReport> = batch.into_iter().map(|(_, report)| report).collect();
        bus.publish(Address::Deployment, encode(&reports)).await?;
        if core
            .journal
            .change_soon(|draft| draft.reports_sent(until))
            .is_err()
        {
            // The process is ending; the next one says it again, which changes nothing.
            return Ok(());
        }
    }
}
