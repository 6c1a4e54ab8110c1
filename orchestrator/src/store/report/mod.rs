//! Applying what nodes report: each report once, in order, and only from the node that holds the
//! revision at that epoch.
//!
//! [`book`] decides, over rows that are locked and held in memory; this file fetches and writes them,
//! a batch in one transaction.

mod book;
mod effects;

use super::column::{JsonText, now};
use super::dispatch::deployments_lock;
use super::entity::{node, parked_report};
use super::ledger::{standings_in, standings_of};
use super::work::WorkAnswers;
use super::{Store, StoreError, Tx};
use book::Book;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, FromQueryResult, QueryFilter};
use shared::id::{DeploymentId, RevisionId};
use shared::message::{StatusEvent, StatusReport};
use shared::status::DesiredState;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub(super) use book::{clean, plausible};
pub(super) use effects::deployment_free_names;

/// How many reports are applied in one transaction: most are further steps of the same revisions,
/// whose rows are written once for all of them.
const REPORTS_AT_ONCE: usize = 4_000;

/// What became of a batch of reports.
#[derive(Clone, Debug, Default)]
pub struct ReportsApplied {
    /// The recorded steps, in order.
    pub steps: Vec<StatusEvent>,
    /// What changed nothing, by reason.
    pub ignored: Ignored,
    /// How many wait for their predecessors.
    pub parked: usize,
    /// How many nodes are to be told the whole picture soon.
    pub pictures_due: usize,
    /// How many work requests follow from it, to be sent soon.
    pub orders: usize,
}

/// Reports that changed nothing, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Applied before: queues deliver twice.
    pub duplicate: u64,
    /// Of an older attempt.
    pub stale_epoch: u64,
    /// Of an attempt that this store never made: it was restored from a backup.
    pub future_epoch: u64,
    /// From a node that does not hold the revision.
    pub other_node: u64,
    /// About a revision that does not exist, or not in that deployment.
    pub unknown: u64,
    /// A step that the status does not allow, or that is not a node's to say.
    pub illegal: u64,
}

#[derive(FromQueryResult)]
struct Overdue {
    revision_id: RevisionId,
}

impl Store {
    /// Applies reports. Duplicates and disorder are fine: a report that arrives before its
    /// predecessor waits for it, until [`Store::reports_sweep`] gives up on that.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was applied and the reports are to be delivered again.
    pub async fn reports_apply(
        &self,
        reports: &[StatusReport],
    ) -> Result<ReportsApplied, StoreError> {
        self.node_reports_apply(reports, &WorkAnswers::default())
            .await
    }

    /// Applies reports, and what nodes say of their work requests, in as few transactions as fit.
    ///
    /// # Errors
    /// [`StoreError`]; then all of it is to be delivered again: what was applied changes nothing
    /// a second time.
    pub async fn node_reports_apply(
        &self,
        reports: &[StatusReport],
        answers: &WorkAnswers,
    ) -> Result<ReportsApplied, StoreError> {
        let mut applied = ReportsApplied::default();
        let mut chunks = reports.chunks(REPORTS_AT_ONCE);
        let last = chunks.next_back().unwrap_or_default();
        for chunk in chunks {
            applied.add(self.apply(chunk, &BTreeSet::new(), None).await?);
        }
        applied.add(self.apply(last, &BTreeSet::new(), Some(answers)).await?);
        Ok(applied)
    }

    /// Applies reports whose predecessors have not come within `patience`: they are taken for lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reports_sweep(&self, patience: Duration) -> Result<ReportsApplied, StoreError> {
        let overdue: Vec<Overdue> = self
            .sql("SELECT DISTINCT revision_id FROM parked_reports WHERE parked_at < ")
            .bind(now() - patience)
            .push(" LIMIT 500")
            .all(self.reader())
            .await?;
        if overdue.is_empty() {
            return Ok(ReportsApplied::default());
        }
        let overdue: BTreeSet<RevisionId> =
            overdue.into_iter().map(|row| row.revision_id).collect();
        self.apply(&[], &overdue, None).await
    }

    async fn apply(
        &self,
        reports: &[StatusReport],
        overdue: &BTreeSet<RevisionId>,
        answers: Option<&WorkAnswers>,
    ) -> Result<ReportsApplied, StoreError> {
        let has_reports = !reports.is_empty() || !overdue.is_empty();
        let answers = answers.filter(|answers| !answers.is_empty());
        if !has_reports && answers.is_none() {
            return Ok(ReportsApplied::default());
        }
        let tx = self.write().await?;
        let mut applied = ReportsApplied::default();
        if has_reports {
            let mut book = load(&tx, reports, overdue).await?;
            book.take(reports, overdue);
            applied = effects::save(&tx, book, self.incarnation()).await?;
        }
        if let Some(answers) = answers {
            answers.save(&tx).await?;
        }
        tx.commit().await?;
        Ok(applied)
    }
}

impl ReportsApplied {
    fn add(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.parked += other.parked;
        self.pictures_due += other.pictures_due;
        self.orders += other.orders;
        self.ignored.duplicate += other.ignored.duplicate;
        self.ignored.stale_epoch += other.ignored.stale_epoch;
        self.ignored.future_epoch += other.ignored.future_epoch;
        self.ignored.other_node += other.ignored.other_node;
        self.ignored.unknown += other.ignored.unknown;
        self.ignored.illegal += other.ignored.illegal;
    }
}

impl Ignored {
    /// Each reason with its count, for metrics.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("duplicate", self.duplicate),
            ("stale_epoch", self.stale_epoch),
            ("future_epoch", self.future_epoch),
            ("other_node", self.other_node),
            ("unknown", self.unknown),
            ("illegal", self.illegal),
        ]
    }
}

/// Locks and reads everything that these reports can touch.
async fn load(
    tx: &Tx<'_>,
    reports: &[StatusReport],
    overdue: &BTreeSet<RevisionId>,
) -> Result<Book, StoreError> {
    // As the reports have it: a revision that is not in the deployment they name is not read.
    let mut revisions: BTreeSet<(RevisionId, DeploymentId)> = reports
        .iter()
        .map(|report| (report.revision_id, report.deployment_id))
        .collect();
    revisions.extend(with_deployments(tx, overdue).await?);
    let named = revisions.iter().map(|(_, deployment_id)| *deployment_id);
    let deployments = deployments_lock(tx, named).await?;
    revisions.extend(deployments.values().filter_map(|deployment| {
        let active = deployment.active_revision_id?;
        Some((active, deployment.id))
    }));
    let destroying: BTreeSet<DeploymentId> = deployments
        .values()
        .filter(|deployment| deployment.desired_state == DesiredState::Destroyed)
        .map(|deployment| deployment.id)
        .collect();
    let mut rows = standings_in(tx, &revisions).await?;
    // The end of one revision there is the end of all: whoever decides that must see them all.
    rows.extend(standings_of(tx, destroying).await?);
    let parked: Vec<parked_report::Model> = tx
        .sql("SELECT * FROM parked_reports WHERE revision_id")
        .one_of(revisions.iter().map(|(id, _)| *id))
        .all(&**tx)
        .await?;
    let names: BTreeSet<String> = reports
        .iter()
        .map(|report| report.node.to_string())
        .chain(parked.iter().map(|parked| parked.body.0.node.to_string()))
        .collect();
    let nodes = node::Entity::find()
        .filter(node::Column::Name.is_in(names))
        .all(&**tx)
        .await?;
    Ok(Book::new(
        deployments,
        rows,
        parked,
        nodes.into_iter().map(|node| (node.name, node.id)).collect(),
    ))
}

#[derive(FromQueryResult)]
struct Owned {
    id: RevisionId,
    deployment_id: DeploymentId,
}

/// Revisions with the deployments that they belong to.
async fn with_deployments(
    tx: &Tx<'_>,
    revisions: &BTreeSet<RevisionId>,
) -> Result<Vec<(RevisionId, DeploymentId)>, StoreError> {
    if revisions.is_empty() {
        return Ok(Vec::new());
    }
    let select = tx
        .sql("SELECT id, deployment_id FROM revisions WHERE id")
        .one_of(revisions.iter().copied());
    let owned: Vec<Owned> = select.all(&**tx).await?;
    Ok(owned
        .into_iter()
        .map(|owned| (owned.id, owned.deployment_id))
        .collect())
}

/// A report as a row that waits for its predecessor.
fn parked_row(report: &StatusReport) -> parked_report::ActiveModel {
    parked_report::ActiveModel {
        revision_id: Set(report.revision_id),
        epoch: Set(report.epoch),
        report_seq: Set(report.seq),
        body: Set(JsonText(report.clone())),
        parked_at: Set(now()),
    }
}

/// By what key a report is applied once.
type ReportKey = (RevisionId, i32, i32);

/// Standings by revision.
type Standings = HashMap<RevisionId, super::ledger::Standing>;
