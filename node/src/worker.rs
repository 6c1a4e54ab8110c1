//! Taking work from the node's queue: read it, journal it, acknowledge it, pass it on.
//!
//! A delivery is never held while its work is done. What cannot be read goes to `dead` with the
//! reason and stops nothing.

use crate::action::disown;
use crate::assignments;
use crate::backoff::Backoff;
use crate::core::Core;
use crate::error::ServiceError;
use crate::journal::{Acceptance, Attempt, JournalError, StepReport, WorkEntry};
use crate::lanes::Lanes;
use crate::logs::Followers;
use shared::bus::{Bus, Consumer, Delivery, Subscription};
use shared::message::{BadItem, WorkItem, WorkRequest, bad_items, decode_each};
use shared::status::ApplicationStatus as S;
use std::sync::Arc;

/// How many deliveries may wait for their acknowledgement.
const PREFETCH: u16 = 32;

/// Takes work until the node stops.
pub(crate) async fn run(
    core: Arc<Core>,
    bus: Arc<dyn Bus>,
    lanes: Lanes,
    followers: Followers,
) -> Result<(), ServiceError> {
    let stop = core.stop.clone();
    let Some(consumer) = stop.run_until_cancelled(listen(&core, &*bus)).await else {
        return Ok(());
    };
    let mut worker = Worker {
        core,
        lanes,
        followers,
        consumer: consumer?,
    };
    loop {
        match stop.run_until_cancelled(worker.consumer.next()).await {
            None => return Ok(()),
            Some(None) => return Err(shared::bus::BusError::Closed.into()),
            Some(Some(first)) => worker.take(first).await?,
        }
    }
}

async fn listen(core: &Core, bus: &dyn Bus) -> Result<Consumer, ServiceError> {
    let mut pause = Backoff::default();
    loop {
        match bus
            .consume(Subscription::Work(core.settings.name.clone()), PREFETCH)
            .await
        {
            Ok(consumer) => return Ok(consumer),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the node's work queue")
            }
            Err(error) => return Err(error.into()),
        }
        pause.wait().await;
    }
}

/// Acknowledges a delivery whose good items are taken; what does not read of it goes to `dead`.
async fn answer(mut delivery: Delivery, bad: &[BadItem]) {
    match bad_items(bad) {
        None => {
            // No longer ours: it comes again, and is known by then.
            let _ = delivery.ack().await;
        }
        Some((left, reason)) => {
            tracing::warn!(%reason, items = bad.len(), "items that do not read go to dead");
            delivery.body = left;
            delivery.dead(&reason).await;
        }
    }
}

struct Worker {
    core: Arc<Core>,
    lanes: Lanes,
    followers: Followers,
    consumer: Consumer,
}

impl Worker {
    /// Takes a delivery, and whatever else has arrived: one write of the journal for all of them.
    async fn take(&mut self, first: Delivery) -> Result<(), ServiceError> {
        let mut deliveries = Vec::new();
        let mut requests = Vec::new();
        let mut picture = None;
        let mut next = Some(first);
        while let Some(delivery) = next {
            match decode_each::<WorkItem>(&delivery.body) {
                Ok(items) => {
                    let mut bad = Vec::new();
                    for item in items {
                        match item {
                            Ok(WorkItem::Request(request)) => requests.push(*request),
                            // Each is the whole: the last one tells all.
                            Ok(WorkItem::Assignments(told))
                                if told.node == self.core.settings.name =>
                            {
                                picture = Some(*told);
                            }
                            Ok(WorkItem::Assignments(told)) => {
                                tracing::warn!(node = %told.node, "a picture of another node is left alone");
                            }
                            Err(item) => bad.push(item),
                        }
                    }
                    deliveries.push((delivery, bad));
                }
                Err(error) => {
                    tracing::warn!(%error, bytes = delivery.body.len(), "a delivery that does not read goes to dead");
                    delivery.dead(&error.to_string()).await;
                }
            }
            next = if deliveries.len() < usize::from(PREFETCH) {
                self.consumer.try_next()
            } else {
                None
            };
        }
        let (transient, lasting): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .partition(|request| request.action.is_transient());
        for request in transient {
            self.followers.obey(&self.core, request);
        }
        let mut store_is_new = false;
        if let Some(told) = &picture {
            store_is_new |= assignments::meet(&self.core, told).await?;
        }
        if !lasting.is_empty() {
            shared::fail_point!("node::worker::after_delivery_before_journal");
        }
        let (accepted, is_new) = self.accept(lasting).await?;
        store_is_new |= is_new;
        // Before the work, so that what is stale is removed first.
        if let Some(told) = picture {
            assignments::begin(&self.core, &self.lanes, told);
        }
        for entry in accepted {
            self.pass_on(entry);
        }
        if store_is_new {
            say_everything(&self.core).await?;
        }
        shared::fail_point!("node::worker::after_journal_before_ack");
        for (delivery, bad) in deliveries {
            answer(delivery, &bad).await;
        }
        Ok(())
    }

    /// Journals requests. Gives what is to be done, and whether it comes from another store than
    /// what came before.
    async fn accept(
        &self,
        requests: Vec<WorkRequest>,
    ) -> Result<(Vec<WorkEntry>, bool), JournalError> {
        if requests.is_empty() {
            return Ok((Vec::new(), false));
        }
        let core = &self.core;
        let node = &core.settings.name;
        let (verdicts, store_is_new) = core
            .journal
            .change(|draft| {
                let store_before = draft.state().store;
                let verdicts: Vec<(WorkRequest, Acceptance)> = requests
                    .into_iter()
                    .map(|request| (request.clone(), draft.accept(node, request)))
                    .collect();
                let store_is_new = store_before.is_some() && draft.state().store != store_before;
                (verdicts, store_is_new)
            })
            .await?;
        let mut accepted = Vec::new();
        for (request, verdict) in verdicts {
            match verdict {
                Acceptance::New(entry) => accepted.push(*entry),
                Acceptance::Repeated => {
                    tracing::debug!(work_id = %request.id, "work that is known was delivered again")
                }
                Acceptance::Refused { reason } => {
                    tracing::warn!(work_id = %request.id, deployment_id = %request.deployment_id, %reason, "work is refused");
                    let attempt = Attempt {
                        revision: request.revision,
                        epoch: request.epoch,
                    };
                    disown(core, request.deployment_id, attempt);
                }
            }
        }
        Ok((accepted, store_is_new))
    }

    fn pass_on(&self, entry: WorkEntry) {
        tracing::debug!(work_id = %entry.request.id, deployment_id = %entry.request.deployment_id, "work is accepted");
        self.lanes.push(&self.core, entry);
    }
}

/// A store that was restored from a backup is told everything that runs here.
async fn say_everything(core: &Core) -> Result<(), JournalError> {
    let node = &core.settings.name;
    core.journal
        .change(|draft| {
            let records: Vec<_> = draft.state().deployments.values().cloned().collect();
            for (deployment_id, running) in records
                .into_iter()
                .filter_map(|record| Some((record.deployment_id, record.current?)))
            {
                let status = if running.is_stopped() {
                    S::Stopped
                } else {
                    S::Running
                };
                let facts = crate::action::running_facts(&running);
                let step = StepReport {
                    facts,
                    ..StepReport::default()
                };
                draft.report(
                    node,
                    deployment_id,
                    running.revision_id,
                    running.attempt.epoch,
                    status,
                    step,
                );
            }
        })
        .await
}
