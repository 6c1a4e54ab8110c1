//! Sending reports: in order, again until the bus has them, and only then forgotten.

use crate::backoff::Backoff;
use crate::core::Core;
use shared::bus::{Address, Bus};
use shared::message::{BODY_LIMIT, NodeReport, encode};
use std::sync::Arc;
use std::time::Duration;

/// The most reports of one message. Beside a detail of 16 KiB each may tell a spec, so that fewer
/// go when that many would not fit.
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
                    biased;
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

/// The next message, and the number after its last report. One report always fits.
fn due(mut batch: Vec<(u64, NodeReport)>) -> Option<(Vec<u8>, u64)> {
    loop {
        let until = batch.last()?.0 + 1;
        let reports: Vec<&NodeReport> = batch.iter().map(|(_, report)| report).collect();
        let body = encode(&reports);
        if body.len() <= BODY_LIMIT || batch.len() == 1 {
            return Some((body, until));
        }
        batch.truncate(batch.len() / 2);
    }
}

async fn send_all(core: &Core, bus: &dyn Bus) -> Result<(), shared::bus::BusError> {
    loop {
        let Some((body, until)) = due(core.journal.unsent(BATCH)) else {
            return Ok(());
        };
        shared::fail_point!("node::outbox::before_publish");
        bus.publish(Address::Deployment, body).await?;
        shared::fail_point!("node::outbox::after_publish_before_forget");
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
