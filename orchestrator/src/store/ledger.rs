//! Moving revisions: every step that is recorded goes through a [`Ledger`].
//!
//! The revision's row is locked first; its events get their numbers from it; rows and events are
//! written together, in batches.

use super::column::{JsonText, Time, now};
use super::entity::{revision, revision_event};
use super::sql::ROWS_AT_ONCE;
use super::{StoreError, Tx};
use sea_orm::{ActiveValue::Set, FromQueryResult, Value};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::spec::DeploymentSpec;
use shared::status::{ApplicationStatus, FailureReason};
use std::collections::{BTreeMap, BTreeSet};

/// A revision as whoever moves it has it: its row, locked, without the documents.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Standing {
    pub(super) id: RevisionId,
    pub(super) deployment_id: DeploymentId,
    pub(super) number: i32,
    pub(super) status: ApplicationStatus,
    pub(super) failure_reason: Option<FailureReason>,
    pub(super) status_detail: Option<String>,
    pub(super) source_version: Option<String>,
    pub(super) content_hash: Option<String>,
    pub(super) epoch: i32,
    pub(super) last_report_seq: i32,
    pub(super) last_event_seq: i32,
    pub(super) node_id: Option<NodeId>,
    pub(super) cancel_requested_at: Option<Time>,
    pub(super) cancel_into: Option<ApplicationStatus>,
    pub(super) was_running: bool,
    /// How often it was taken from its node and given out again since it last ran.
    pub(super) attempts: i32,
    /// Newly learnt; written when it is there.
    #[sea_orm(skip)]
    pub(super) spec: Option<JsonText<DeploymentSpec>>,
}

/// The columns of a [`Standing`], of a table `r`.
pub(super) const STANDING_COLUMNS: &str = "r.id, r.deployment_id, r.number, r.status, r.failure_reason, r.status_detail, \
     r.source_version, r.content_hash, r.epoch, r.last_report_seq, r.last_event_seq, r.node_id, r.cancel_requested_at, \
     r.cancel_into, r.was_running, r.attempts";

impl Standing {
    /// A node was given work for it and it has not come to an end.
    pub(super) fn is_under_way(&self) -> bool {
        self.status.is_open() && self.status != ApplicationStatus::Requested
    }

    /// It served and is started again where it is: an order about its containers is under way, no
    /// deployment action.
    pub(super) fn is_restarting(&self) -> bool {
        self.status.is_open() && self.was_running && self.attempts == 0
    }

    fn from_row(row: &revision::Model) -> Self {
        Self {
            id: row.id,
            deployment_id: row.deployment_id,
            number: row.number,
            status: row.status,
            failure_reason: row.failure_reason,
            status_detail: row.status_detail.clone(),
            source_version: row.source_version.clone(),
            content_hash: row.content_hash.clone(),
            epoch: row.epoch,
            last_report_seq: row.last_report_seq,
            last_event_seq: row.last_event_seq,
            node_id: row.node_id,
            cancel_requested_at: row.cancel_requested_at,
            cancel_into: row.cancel_into,
            was_running: row.was_running,
            attempts: row.attempts,
            spec: None,
        }
    }
}

/// Locks revisions by their ids.
pub(super) async fn standings(
    tx: &Tx<'_>,
    ids: impl IntoIterator<Item = RevisionId>,
) -> Result<Vec<Standing>, StoreError> {
    let ids: Vec<_> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.sql("SELECT ")
        .push(STANDING_COLUMNS)
        .push(" FROM revisions r WHERE r.id")
        .one_of(ids)
        .push(" ORDER BY r.id")
        .locked("r")
        .all(&**tx)
        .await
}

/// Locks revisions by their ids, those that are in these deployments.
pub(super) async fn standings_in(
    tx: &Tx<'_>,
    ids: &BTreeSet<(RevisionId, DeploymentId)>,
) -> Result<Vec<Standing>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = ids
        .iter()
        .map(|(id, deployment_id)| [(*id).into(), (*deployment_id).into()]);
    tx.sql("SELECT ")
        .push(STANDING_COLUMNS)
        .push(" FROM ")
        .rows(rows)
        .push(" JOIN revisions r ON r.id = v.column1 AND r.deployment_id = v.column2 ORDER BY r.id")
        .locked("r")
        .all(&**tx)
        .await
}

/// Locks every revision of a deployment that is not destroyed, oldest first.
pub(super) async fn standings_of(
    tx: &Tx<'_>,
    deployments: impl IntoIterator<Item = DeploymentId>,
) -> Result<Vec<Standing>, StoreError> {
    let deployments: Vec<_> = deployments.into_iter().collect();
    if deployments.is_empty() {
        return Ok(Vec::new());
    }
    let select = tx
        .sql("SELECT ")
        .push(STANDING_COLUMNS)
        .push(" FROM revisions r WHERE r.status <> 'DESTROYED' AND r.deployment_id")
        .one_of(deployments);
    select.push(" ORDER BY r.id").locked("r").all(&**tx).await
}

/// Steps being recorded in one transaction.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    moved: BTreeMap<RevisionId, Standing>,
    events: Vec<(StatusEvent, Option<i32>)>,
    /// How many of the events were looked at for what follows from them.
    followed: usize,
}

/// Why a step is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Because {
    pub(super) failure_reason: Option<FailureReason>,
    pub(super) detail: Option<String>,
    /// The node's number of the report that says so.
    pub(super) report_seq: Option<i32>,
    /// When, when a node saw it.
    pub(super) at: Option<Time>,
}

impl Because {
    /// A step of the orchestrator's own, with what a person should know.
    pub(super) fn of(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::default()
        }
    }
}

impl Ledger {
    /// Moves a revision; the caller knows that the step is legal.
    pub(super) fn step(
        &mut self,
        standing: &mut Standing,
        status: ApplicationStatus,
        because: Because,
    ) {
        standing.status = status;
        standing.failure_reason = because.failure_reason;
        standing.status_detail.clone_from(&because.detail);
        if status == ApplicationStatus::Running {
            standing.was_running = true;
            standing.attempts = 0;
        }
        standing.last_event_seq += 1;
        let event = StatusEvent {
            deployment_id: standing.deployment_id,
            revision_id: standing.id,
            revision: standing.number,
            epoch: standing.epoch,
            seq: standing.last_event_seq,
            status,
            failure_reason: because.failure_reason,
            detail: because.detail,
            at: because.at.unwrap_or_else(now),
        };
        self.events.push((event, because.report_seq));
        self.touch(standing);
    }

    /// The steps since the last call, for whoever sees to what follows from them.
    pub(super) fn take_unfollowed(&mut self) -> Vec<(RevisionId, ApplicationStatus)> {
        let new = self.events[self.followed..]
            .iter()
            .map(|(event, _)| (event.revision_id, event.status))
            .collect();
        self.followed = self.events.len();
        new
    }

    /// Writes what else changed in a revision's row.
    pub(super) fn touch(&mut self, standing: &Standing) {
        self.moved.insert(standing.id, standing.clone());
    }

    /// The first step of revisions that are being inserted.
    pub(super) fn first_step(&mut self, row: &revision::Model) {
        let standing = Standing::from_row(row);
        let event = StatusEvent {
            deployment_id: standing.deployment_id,
            revision_id: standing.id,
            revision: standing.number,
            epoch: standing.epoch,
            seq: standing.last_event_seq,
            status: standing.status,
            failure_reason: None,
            detail: standing.status_detail,
            at: row.created_at,
        };
        self.events.push((event, None));
    }

    /// Writes rows and events; what was recorded, in order, to be announced after the commit.
    pub(super) async fn save(self, tx: &Tx<'_>) -> Result<Vec<StatusEvent>, StoreError> {
        let moved: Vec<Standing> = self.moved.into_values().collect();
        for chunk in moved.chunks(ROWS_AT_ONCE) {
            update(tx, chunk).await?;
        }
        for chunk in self.events.chunks(ROWS_AT_ONCE) {
            let rows = chunk
                .iter()
                .map(|(event, report_seq)| event_row(event, *report_seq));
            tx.sql("").insert(rows).run(&**tx).await?;
        }
        Ok(self.events.into_iter().map(|(event, _)| event).collect())
    }
}

async fn update(tx: &Tx<'_>, standings: &[Standing]) -> Result<(), StoreError> {
    let at = now();
    let rows = standings.iter().map(|standing| -> [Value; 16] {
        [
            standing.id.into(),
            standing.status.into(),
            standing.failure_reason.into(),
            standing.status_detail.clone().into(),
            standing.source_version.clone().into(),
            standing.content_hash.clone().into(),
            standing.epoch.into(),
            standing.last_report_seq.into(),
            standing.last_event_seq.into(),
            standing.node_id.into(),
            standing.cancel_requested_at.into(),
            standing.cancel_into.into(),
            standing.was_running.into(),
            standing.spec.clone().into(),
            at.into(),
            standing.attempts.into(),
        ]
    });
    let changed = tx
        .sql(
            "UPDATE revisions SET status = v.column2, failure_reason = v.column3, status_detail = v.column4, \
             source_version = v.column5, content_hash = v.column6, epoch = v.column7, last_report_seq = v.column8, \
             last_event_seq = v.column9, node_id = v.column10, cancel_requested_at = v.column11, cancel_into = v.column12, \
             was_running = v.column13, spec = COALESCE(v.column14, spec), updated_at = v.column15, attempts = v.column16 FROM ",
        )
        .rows(rows)
        .push(" WHERE revisions.id = v.column1")
        .run(&**tx)
        .await?;
    if changed != standings.len() as u64 {
        return Err(StoreError::Inconsistent {
            what: format!(
                "{changed} of {} revisions were there to be moved",
                standings.len()
            ),
        });
    }
    Ok(())
}

fn event_row(event: &StatusEvent, report_seq: Option<i32>) -> revision_event::ActiveModel {
    revision_event::ActiveModel {
        revision_id: Set(event.revision_id),
        seq: Set(event.seq),
        deployment_id: Set(event.deployment_id),
        revision: Set(event.revision),
        epoch: Set(event.epoch),
        report_seq: Set(report_seq),
        status: Set(event.status),
        failure_reason: Set(event.failure_reason),
        detail: Set(event.detail.clone()),
        at: Set(event.at),
    }
}
