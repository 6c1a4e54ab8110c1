//! Work requests: rows before they are messages, until a node has them in its journal.

use super::column::{JsonText, Time, WorkKind, now};
use super::entity::work_request;
use super::ledger::Standing;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use sea_orm::{ActiveValue::Set, FromQueryResult, Value};
use shared::id::{NodeId, StoreIncarnation, WorkId};
use shared::message::{WorkAction, WorkReceipt, WorkRefused, WorkRequest};
use shared::name::{DeploymentName, NodeName};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// For how long a node is believed to be at its work after it last said so.
pub(crate) const WORK_LEASE: Duration = Duration::from_secs(60);

/// A work request that is to be published now.
#[derive(Clone, Debug)]
pub struct PublishableWork {
    /// The node whose queue it goes to.
    pub node: NodeName,
    /// What is sent.
    pub request: WorkRequest,
    /// How often it was published before.
    pub attempts: i32,
}

#[derive(FromQueryResult)]
struct Claimed {
    id: WorkId,
}

#[derive(FromQueryResult)]
struct Row {
    node: NodeName,
    body: JsonText<WorkRequest>,
    attempts: i32,
}

impl Store {
    /// Claims up to `limit` work requests that are to be published, oldest first, for as long as
    /// `lease`: those never published, and those published longer than `patience` ago that their
    /// node has not taken. What is for a lost node waits until that is back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_publishable(
        &self,
        limit: u64,
        lease: Duration,
        patience: Duration,
    ) -> Result<(Uuid, Vec<PublishableWork>), StoreError> {
        let token = Uuid::new_v4();
        let tx = self.write().await?;
        let due = tx.sql(
            "WITH due AS MATERIALIZED (SELECT w.id FROM work_requests w JOIN nodes n ON n.id = w.node_id \
             WHERE w.accepted_at IS NULL AND w.finished_at IS NULL AND n.status <> 'LOST' AND (w.published_at IS NULL OR w.published_at < ",
        );
        let claimed: Vec<Claimed> = due
            .earlier(patience_kept(patience))
            .push(") AND (w.claimed_until IS NULL OR w.claimed_until < ")
            .now()
            .push(") ORDER BY w.id LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .locked_or_skipped("w")
            .push(") UPDATE work_requests SET claim_token = ")
            .bind(token)
            .push(", claimed_until = ")
            .later(lease)
            .push(" WHERE id IN (SELECT id FROM due) RETURNING id")
            .all(&*tx)
            .await?;
        let rows: Vec<Row> = if claimed.is_empty() {
            Vec::new()
        } else {
            tx.sql("SELECT n.name AS node, w.body, w.attempts FROM work_requests w JOIN nodes n ON n.id = w.node_id WHERE w.id")
                .one_of(claimed.into_iter().map(|claimed| claimed.id))
                .push(" ORDER BY w.id")
                .all(&*tx)
                .await?
        };
        tx.commit().await?;
        let work = rows.into_iter().map(|row| PublishableWork {
            node: row.node,
            request: row.body.0,
            attempts: row.attempts,
        });
        Ok((token, work.collect()))
    }

    /// Marks work requests as published: the transport has confirmed them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_published(&self, token: Uuid, ids: &[WorkId]) -> Result<(), StoreError> {
        self.work_unclaim(
            token,
            ids,
            ", attempts = attempts + 1, published_at = ",
            true,
        )
        .await
    }

    /// Gives claimed work requests back that could not be published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_unpublished(&self, token: Uuid, ids: &[WorkId]) -> Result<(), StoreError> {
        self.work_unclaim(token, ids, "", false).await
    }

    /// Gives work requests back that were recorded as sent and could not be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_unsent(&self, ids: &[WorkId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        for chunk in ids.chunks(ROWS_AT_ONCE) {
            tx.sql("UPDATE work_requests SET published_at = NULL, leased_until = NULL, attempts = attempts - 1 WHERE accepted_at IS NULL AND id")
                .one_of(chunk.iter().copied())
                .run(&*tx)
                .await?;
        }
        tx.commit().await
    }

    async fn work_unclaim(
        &self,
        token: Uuid,
        ids: &[WorkId],
        also: &str,
        stamp: bool,
    ) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        for chunk in ids.chunks(ROWS_AT_ONCE) {
            let update = tx
                .sql("UPDATE work_requests SET claim_token = NULL, claimed_until = NULL")
                .push(also);
            let update = if stamp {
                // From the first time on: a node that is alive and never takes it is noticed too.
                update
                    .now()
                    .push(", leased_until = COALESCE(leased_until, ")
                    .later(WORK_LEASE)
                    .push(")")
            } else {
                update
            };
            update
                .push(" WHERE claim_token = ")
                .bind(token)
                .push(" AND id")
                .one_of(chunk.iter().copied())
                .run(&*tx)
                .await?;
        }
        tx.commit().await
    }

    /// Makes everything that no node has taken publishable at once: for the start of an orchestrator,
    /// when nobody knows what the broker kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_republish(&self) -> Result<u64, StoreError> {
        if is_sent_once() {
            return Ok(0);
        }
        let tx = self.write().await?;
        let update = "UPDATE work_requests SET published_at = NULL WHERE accepted_at IS NULL AND finished_at IS NULL \
                      AND published_at IS NOT NULL AND (claimed_until IS NULL OR claimed_until < ";
        let again = tx.sql(update).now().push(")").run(&*tx).await?;
        tx.commit().await?;
        Ok(again)
    }
}

/// How long to wait for a node; for ever in a simulated world that has broken the outbox.
fn patience_kept(patience: Duration) -> Duration {
    if is_sent_once() {
        return Duration::from_secs(365 * 24 * 3600);
    }
    patience
}

/// Whether a simulated world has broken the rule that what no node has taken is sent again.
pub(super) fn is_sent_once() -> bool {
    #[cfg(feature = "simulation")]
    if shared::simulation::is_broken(shared::simulation::Rule::Outbox) {
        return true;
    }
    false
}

/// How much of a refusal's reason is kept, in bytes.
const REASON_LIMIT: usize = 4096;

/// What nodes say of work requests.
#[derive(Clone, Debug, Default)]
pub struct WorkAnswers {
    /// Those that are in their nodes' journals.
    pub accepted: Vec<WorkReceipt>,
    /// Those that came to their end.
    pub finished: Vec<WorkReceipt>,
    /// Those that will not be done.
    pub refused: Vec<WorkRefused>,
}

impl WorkAnswers {
    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.finished.is_empty() && self.refused.is_empty()
    }

    /// Writes them: each work request once, in the order of their ids.
    pub(super) async fn save(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let at = now();
        let rows: Vec<[Value; 5]> = self
            .sorted()
            .into_iter()
            .map(|((id, node), answer)| {
                let refused = answer
                    .refused
                    .map(|reason| super::report::clean(reason, REASON_LIMIT));
                [
                    id.into(),
                    node.clone().into(),
                    at.into(),
                    answer.is_over.then_some(at).into(),
                    refused.into(),
                ]
            })
            .collect();
        for chunk in rows.chunks(ROWS_AT_ONCE) {
            tx.sql("UPDATE work_requests SET leased_until = ")
            .later(WORK_LEASE)
            .push(
                ", accepted_at = COALESCE(accepted_at, v.column3), \
                 finished_at = COALESCE(finished_at, v.column4), refused_reason = COALESCE(refused_reason, v.column5) FROM ",
            )
            .rows(chunk.iter().cloned())
            .push(
                " JOIN nodes n ON n.name = v.column2 WHERE work_requests.id = v.column1 AND work_requests.node_id = n.id",
            )
            .run(&**tx)
            .await?;
        }
        Ok(())
    }

    fn sorted(&self) -> BTreeMap<(WorkId, &NodeName), Answer<'_>> {
        let mut sorted: BTreeMap<(WorkId, &NodeName), Answer<'_>> = BTreeMap::new();
        for receipt in &self.accepted {
            sorted.entry((receipt.work_id, &receipt.node)).or_default();
        }
        for receipt in &self.finished {
            let answer = sorted.entry((receipt.work_id, &receipt.node)).or_default();
            answer.is_over = true;
        }
        for refused in &self.refused {
            let answer = sorted.entry((refused.work_id, &refused.node)).or_default();
            answer.is_over = true;
            answer.refused = Some(&refused.reason);
        }
        sorted
    }
}

/// What was said of one work request.
#[derive(Default)]
struct Answer<'a> {
    is_over: bool,
    refused: Option<&'a str>,
}

/// A work request about a revision, for a node.
pub(super) fn order(
    store: StoreIncarnation,
    deployment_name: &DeploymentName,
    revision: &Standing,
    node_id: NodeId,
    action: WorkAction,
    at: Time,
) -> Option<work_request::ActiveModel> {
    let kind = kind_of(&action)?;
    let request = WorkRequest {
        id: WorkId::new(),
        store,
        deployment_id: revision.deployment_id,
        deployment_name: deployment_name.clone(),
        revision_id: revision.id,
        revision: revision.number,
        epoch: revision.epoch,
        last_report_seq: revision.last_report_seq,
        action,
    };
    Some(work_request::ActiveModel {
        id: Set(request.id),
        node_id: Set(node_id),
        deployment_id: Set(revision.deployment_id),
        revision_id: Set(revision.id),
        epoch: Set(revision.epoch),
        kind: Set(kind),
        body: Set(JsonText(request)),
        created_at: Set(at),
        published_at: Set(None),
        accepted_at: Set(None),
        finished_at: Set(None),
        refused_reason: Set(None),
        attempts: Set(0),
        claim_token: Set(None),
        claimed_until: Set(None),
        leased_until: Set(None),
    })
}

/// What a row calls an action; nothing for a reader's wish, which is never a row.
fn kind_of(action: &WorkAction) -> Option<WorkKind> {
    Some(match action {
        WorkAction::Deploy(_) => WorkKind::Deploy,
        WorkAction::Adopt(_) => WorkKind::Adopt,
        WorkAction::Stop(_) => WorkKind::Stop,
        WorkAction::Start(_) => WorkKind::Start,
        WorkAction::Restart(_) => WorkKind::Restart,
        WorkAction::Destroy { .. } => WorkKind::Destroy,
        WorkAction::Cancel => WorkKind::Cancel,
        WorkAction::FollowLogs { .. } | WorkAction::UnfollowLogs { .. } => return None,
    })
}

/// Writes work requests.
pub(super) async fn work_insert(
    tx: &Tx<'_>,
    orders: Vec<work_request::ActiveModel>,
) -> Result<(), StoreError> {
    for chunk in orders.chunks(ROWS_AT_ONCE) {
        tx.sql("").insert(chunk.iter().cloned()).run(&**tx).await?;
    }
    Ok(())
}
