//! What nodes report becomes rows: whatever is there in one transaction, each report once.
//!
//! A delivery is acknowledged after its reports are committed. If this process dies in between, the
//! reports come again and change nothing.

use crate::event::{EventSink, Wake};
use crate::store::{ReportsApplied, Store, StoreError, WorkAnswers};
use futures::future::join_all;
use shared::bus::{Bus, BusError, Consumer, Delivery, Subscription};
use shared::message::{
    BadItem, DeploymentRemoved, NodeReport, Reconciled, RevisionMissing, StatusEvent, StatusReport,
    WorkRefused, bad_items, decode_each,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many messages are under way to us.
const PREFETCH: u16 = 512;
/// How many are applied together.
const BATCH: usize = 256;
/// How many bytes of them: read and on their way to the database they are there several times.
const BATCH_BYTES: usize = 8 << 20;
/// How long to wait after the database failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes reports in.
pub(crate) struct Ingest {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
}

impl Ingest {
    /// Runs until `stop`. A batch that was begun is finished.
    ///
    /// # Errors
    /// When the bus refuses for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let mut consumer = self.bus.consume(Subscription::Deployment, PREFETCH).await?;
        while let Some(Some(first)) = stop.run_until_cancelled(consumer.next()).await {
            let batch = self.open(first, &mut consumer).await;
            self.settle(batch, &stop).await;
        }
        Ok(())
    }

    /// Reads what is there. What cannot be read, ever, goes to the dead letters with its reason.
    async fn open(&self, first: Delivery, consumer: &mut Consumer) -> Vec<Opened> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(delivery) = next {
            bytes += delivery.body.len();
            match decode_each::<NodeReport>(&delivery.body) {
                Ok(items) => batch.push(Opened::of(delivery, items)),
                Err(error) => bury(delivery, &error.to_string()).await,
            }
            next = if batch.len() < BATCH && bytes < BATCH_BYTES {
                consumer.try_next()
            } else {
                None
            };
        }
        batch
    }

    /// Records a batch and answers its deliveries. When `stop` comes first they go back, to whoever
    /// takes over.
    async fn settle(&self, batch: Vec<Opened>, stop: &CancellationToken) {
        let all = || batch.iter().flat_map(|opened| &opened.reports);
        match self.record(all, stop).await {
            Ok(()) => acknowledge(batch).await,
            Err(NotRecorded::Refused(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a batch of reports was refused; applying them one by one"
                );
                self.settle_one_by_one(batch, stop).await;
            }
            Err(NotRecorded::Stopped) => {}
        }
    }

    /// One of them cannot be recorded, ever: the others must not wait for it.
    async fn settle_one_by_one(&self, batch: Vec<Opened>, stop: &CancellationToken) {
        for mut opened in batch {
            match self.record(|| opened.reports.iter(), stop).await {
                Ok(()) => {}
                Err(NotRecorded::Refused(_)) => match self.each(&opened.reports, stop).await {
                    Some(refused) => opened.bad.extend(refused),
                    None => return,
                },
                Err(NotRecorded::Stopped) => return,
            }
            acknowledge(vec![opened]).await;
        }
    }

    /// Records each report for itself; those that are refused, or nothing when `stop` came first.
    async fn each(&self, reports: &[NodeReport], stop: &CancellationToken) -> Option<Vec<BadItem>> {
        let mut refused = Vec::new();
        for report in reports {
            match self.record(|| std::iter::once(report), stop).await {
                Ok(()) => {}
                Err(NotRecorded::Refused(error)) => {
                    refused.push(BadItem::of(report, error.to_string()));
                }
                Err(NotRecorded::Stopped) => return None,
            }
        }
        Some(refused)
    }

    /// Records reports together. While the database does not answer they are held: what is given back
    /// too often ends among the dead letters, and these are good reports.
    async fn record<'a, I: Iterator<Item = &'a NodeReport>>(
        &self,
        reports: impl Fn() -> I,
        stop: &CancellationToken,
    ) -> Result<(), NotRecorded> {
        let mut is_said = false;
        loop {
            match self.apply(reports()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_about_the_data() => return Err(NotRecorded::Refused(error)),
                Err(error) if !is_said => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "reports could not be recorded yet; trying again"
                    );
                    is_said = true;
                }
                Err(_) => {}
            }
            let pause = tokio::time::sleep(PAUSE);
            if stop.run_until_cancelled(pause).await.is_none() {
                return Err(NotRecorded::Stopped);
            }
        }
    }

    async fn apply<'a>(
        &self,
        reports: impl Iterator<Item = &'a NodeReport>,
    ) -> Result<(), StoreError> {
        shared::fail_point!("orchestrator::ingest::before_apply");
        let sorted = Sorted::of(reports);
        let applied = self
            .store
            .node_reports_apply(&sorted.statuses, &sorted.answers)
            .await?;
        self.announce(applied);
        if !sorted.answers.finished.is_empty() || !sorted.answers.refused.is_empty() {
            self.wake.dispatcher.notify_one();
        }
        self.take_back(&sorted.answers.refused).await?;
        self.compared(&sorted).await
    }

    /// A deployment action that its node will not do is given out again.
    async fn take_back(&self, refused: &[WorkRefused]) -> Result<(), StoreError> {
        let taken_back = self.store.work_refused_fence(refused).await?;
        self.fenced(taken_back.steps);
        Ok(())
    }

    /// What nodes found when they compared the whole picture.
    async fn compared(&self, sorted: &Sorted) -> Result<(), StoreError> {
        self.store.deployments_removed(&sorted.removed).await?;
        let missing = self.store.revisions_missing(&sorted.missing).await?;
        self.fenced(missing.steps);
        if missing.adopted > 0 {
            tracing::info!(
                revisions = missing.adopted,
                "revisions that their nodes have lost record of are taken up again"
            );
            self.wake.publisher.notify_one();
        }
        if self.store.nodes_reconciled(&sorted.reconciled).await? {
            self.wake.assigner.notify_one();
        }
        Ok(())
    }

    fn fenced(&self, steps: Vec<StatusEvent>) {
        if !steps.is_empty() {
            self.wake.dispatcher.notify_one();
            self.wake.assigner.notify_one();
            self.events.steps(steps);
        }
    }

    fn announce(&self, applied: ReportsApplied) {
        metrics::counter!("longshore_reports_applied_total").increment(applied.steps.len() as u64);
        for (reason, count) in applied
            .ignored
            .by_reason()
            .into_iter()
            .filter(|(_, count)| *count > 0)
        {
            metrics::counter!("longshore_reports_ignored_total", "reason" => reason)
                .increment(count);
        }
        if applied.steps.iter().any(|step| !step.status.is_open()) {
            // A deployment that was busy may have a newer revision that waits.
            self.wake.dispatcher.notify_one();
            // It may be what a move has waited for, or the end of one.
            self.wake.mover.notify_one();
        }
        if applied.orders > 0 {
            self.wake.publisher.notify_one();
        }
        if applied.pictures_due > 0 {
            self.wake.assigner.notify_one();
        }
        self.events.steps(applied.steps);
    }
}

/// Why reports were not recorded.
enum NotRecorded {
    /// The database will never take one of them.
    Refused(StoreError),
    /// This process ends.
    Stopped,
}

struct Opened {
    delivery: Delivery,
    reports: Vec<NodeReport>,
    /// What of it cannot be read, or not be recorded.
    bad: Vec<BadItem>,
}

impl Opened {
    fn of(delivery: Delivery, items: Vec<Result<NodeReport, BadItem>>) -> Self {
        let (mut reports, mut bad) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            match item {
                Ok(report) => reports.push(report),
                Err(item) => bad.push(item),
            }
        }
        Self {
            delivery,
            reports,
            bad,
        }
    }

    /// Answers it, once its reports are recorded; `false` when it is no longer ours.
    async fn done(mut self) -> bool {
        match bad_items(&self.bad) {
            None => self.delivery.ack().await,
            Some((left, reason)) => {
                self.delivery.body = left;
                bury(self.delivery, &reason).await;
                true
            }
        }
    }
}

/// Answers all at once: one after the other each would wait for its turn on the wire.
async fn acknowledge(batch: Vec<Opened>) {
    shared::fail_point!("orchestrator::ingest::after_apply_before_ack");
    let answers = join_all(batch.into_iter().map(Opened::done)).await;
    let late = answers.into_iter().filter(|is_ours| !is_ours).count();
    if late > 0 {
        tracing::debug!(
            late,
            "acknowledgements came too late; the reports come again and change nothing"
        );
    }
}

async fn bury(delivery: Delivery, reason: &str) {
    tracing::warn!(
        reason,
        bytes = delivery.body.len(),
        "reports that cannot be taken are kept among the dead letters"
    );
    delivery.dead(reason).await;
}

/// Reports by what they say.
#[derive(Default)]
struct Sorted {
    statuses: Vec<StatusReport>,
    answers: WorkAnswers,
    reconciled: Vec<Reconciled>,
    missing: Vec<RevisionMissing>,
    removed: Vec<DeploymentRemoved>,
}

impl Sorted {
    fn of<'a>(reports: impl Iterator<Item = &'a NodeReport>) -> Self {
        let mut sorted = Self::default();
        for report in reports.cloned() {
            match report {
                NodeReport::Status(status) => sorted.statuses.push(status),
                NodeReport::Accepted(receipt) => sorted.answers.accepted.push(receipt),
                NodeReport::Finished(receipt) => sorted.answers.finished.push(receipt),
                NodeReport::Refused(refused) => {
                    tracing::warn!(node.name = %refused.node, work.id = %refused.work_id, reason = %refused.reason, "a node refused work");
                    sorted.answers.refused.push(refused);
                }
                NodeReport::Reconciled(reconciled) => sorted.reconciled.push(reconciled),
                NodeReport::Missing(missing) => {
                    tracing::warn!(node.name = %missing.node, revision.id = %missing.revision_id, adoptable = missing.adoptable, "a node has no record of what it should run");
                    sorted.missing.push(missing);
                }
                NodeReport::Removed(removed) => sorted.removed.push(removed),
            }
        }
        sorted
    }
}
