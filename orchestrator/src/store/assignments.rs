//! The whole picture of a node: when it is told, and what it says back of it.

use super::column::now;
use super::dispatch::deployments_lock;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use rand::Rng;
use sea_orm::{FromQueryResult, Value};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{Assigned, Assignments, DeploymentRemoved, Reconciled};
use shared::name::{DeploymentName, NodeName};
use shared::status::{ApplicationStatus, DesiredState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a node is told the picture without another reason.
const PERIOD: Duration = Duration::from_secs(60);
/// How often while it must compare before it may work.
const PERIOD_WHILE_COMPARING: Duration = Duration::from_secs(5);
/// A reason that may come again and again makes the picture due this soon: often enough, and not
/// once for each message.
const SOON: Duration = Duration::from_secs(1);

#[derive(FromQueryResult)]
struct Id {
    id: NodeId,
}

#[derive(FromQueryResult)]
struct Told {
    id: NodeId,
    name: NodeName,
    given: i64,
}

#[derive(FromQueryResult)]
struct Row {
    node_id: NodeId,
    deployment_id: DeploymentId,
    name: DeploymentName,
    desired_state: DesiredState,
    revision_id: RevisionId,
    number: i32,
    epoch: i32,
    last_report_seq: i32,
    status: ApplicationStatus,
}

/// The columns of a [`Row`], of tables `r` and `d`.
const ROW_COLUMNS: &str = "r.node_id, r.deployment_id, d.name, d.desired_state, r.id AS revision_id, r.number, r.epoch, \
     r.last_report_seq, r.status";

impl Store {
    /// Claims up to `limit` nodes that are to be told the whole picture now, longest due first, and
    /// says when each is due next: after about a minute (times `jitter`), sooner while it must compare.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignments_claim(
        &self,
        limit: u64,
        jitter: f64,
    ) -> Result<Vec<NodeId>, StoreError> {
        let tx = self.write().await?;
        let claimed: Vec<Id> = tx
            .sql("WITH due AS MATERIALIZED (SELECT n.id FROM nodes n WHERE n.assignments_due_at <= (SELECT ")
            .now()
            .push(") AND n.status <> 'LOST' AND n.removed_at IS NULL ORDER BY n.assignments_due_at LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .locked_or_skipped("n")
            .push(") UPDATE nodes SET assignments_due_at = CASE WHEN must_reconcile THEN ")
            .later(PERIOD_WHILE_COMPARING)
            .push(" ELSE ")
            .later(PERIOD.mul_f64(jitter))
            .push(" END WHERE id IN (SELECT id FROM due) RETURNING id")
            .all(&*tx)
            .await?;
        tx.commit().await?;
        Ok(claimed.into_iter().map(|claimed| claimed.id).collect())
    }

    /// Everything that these nodes should have, as it was at one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignments(&self, nodes: &[NodeId]) -> Result<Vec<Assignments>, StoreError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = self.snapshot().await?;
        let told: Vec<Told> = self
            .sql("SELECT id, name, given FROM nodes WHERE id")
            .one_of(nodes.iter().copied())
            .all(&snapshot)
            .await?;
        let rows: Vec<Row> = self
            .sql("SELECT ")
            .push(ROW_COLUMNS)
            .push(" FROM revisions r JOIN deployments d ON d.id = r.deployment_id WHERE r.is_placed AND r.node_id")
            .one_of(nodes.iter().copied())
            // What failed after it had served, in a restart for instance, is kept to be looked at, with
            // its ports, until something else takes its place.
            .push(" UNION ALL SELECT ")
            .push(ROW_COLUMNS)
            .push(
                " FROM deployments d JOIN revisions r ON r.id = d.active_revision_id WHERE r.status = 'FAILED' \
                 AND r.node_id = d.node_id AND d.node_id",
            )
            .one_of(nodes.iter().copied())
            .push(" ORDER BY revision_id")
            .all(&snapshot)
            .await?;
        snapshot.commit().await?;
        let mut by_node: BTreeMap<NodeId, Vec<Assigned>> = BTreeMap::new();
        for row in rows {
            by_node.entry(row.node_id).or_default().push(row.into());
        }
        let pictures = told.into_iter().map(|told| Assignments {
            store: self.incarnation(),
            node: told.name,
            as_of: told.given,
            revisions: by_node.remove(&told.id).unwrap_or_default(),
        });
        Ok(pictures.collect())
    }

    /// Makes the picture of every node that is not lost due within `spread`, each at a moment of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignments_due_all(&self, spread: Duration) -> Result<(), StoreError> {
        let tx = self.write().await?;
        let nodes: Vec<Id> = tx
            .sql("SELECT n.id FROM nodes n WHERE n.status <> 'LOST' AND n.removed_at IS NULL ORDER BY n.id")
            .locked("n")
            .all(&*tx)
            .await?;
        let at = now();
        let mut chance = shared::chance::rng();
        for chunk in nodes.chunks(ROWS_AT_ONCE) {
            let rows = chunk.iter().map(|node| -> [Value; 2] {
                let moment = at + spread.mul_f64(chance.random_range(0.0..1.0));
                [node.id.into(), moment.into()]
            });
            tx.sql("UPDATE nodes SET assignments_due_at = v.column2 FROM ")
                .rows(rows)
                .push(" WHERE nodes.id = v.column1")
                .run(&*tx)
                .await?;
        }
        tx.commit().await
    }

    /// Takes in that pictures were compared: a node that was lost may take work again, with its next
    /// heartbeat. It is told another picture when it was given something since, or compared one of
    /// another store; whether there are such.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_reconciled(&self, reconciled: &[Reconciled]) -> Result<bool, StoreError> {
        if reconciled.is_empty() {
            return Ok(false);
        }
        let mut newest: BTreeMap<&NodeName, i64> = BTreeMap::new();
        for told in reconciled
            .iter()
            .filter(|told| told.store == self.incarnation())
        {
            let as_of = newest.entry(&told.node).or_insert(told.as_of);
            *as_of = (*as_of).max(told.as_of);
        }
        let tx = self.write().await?;
        let names: BTreeSet<&NodeName> = reconciled.iter().map(|told| &told.node).collect();
        let comparing: Vec<Told> = tx
            .sql("SELECT n.id, n.name, n.given FROM nodes n WHERE n.must_reconcile AND n.status <> 'LOST' AND n.name")
            .one_of(names.into_iter().cloned())
            .push(" ORDER BY n.id")
            .locked("n")
            .all(&*tx)
            .await?;
        let (done, not_yet): (Vec<Told>, Vec<Told>) = comparing.into_iter().partition(|node| {
            newest
                .get(&node.name)
                .is_some_and(|as_of| *as_of >= node.given)
        });
        if !done.is_empty() {
            tx.sql("UPDATE nodes SET must_reconcile = FALSE WHERE id")
                .one_of(done.iter().map(|node| node.id))
                .run(&*tx)
                .await?;
        }
        assignments_due(&tx, not_yet.iter().map(|node| node.id)).await?;
        tx.commit().await?;
        Ok(!not_yet.is_empty())
    }

    /// Takes in that nothing of deployments is left on nodes: their ports there are free, unless they
    /// were given to the node again since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deployments_removed(
        &self,
        removed: &[DeploymentRemoved],
    ) -> Result<(), StoreError> {
        for chunk in removed.chunks(ROWS_AT_ONCE) {
            let tx = self.write().await?;
            // Whoever gives one of them to a node has this lock.
            deployments_lock(&tx, chunk.iter().map(|removed| removed.deployment_id)).await?;
            let rows = chunk.iter().map(|removed| -> [Value; 2] {
                [removed.deployment_id.into(), removed.node.clone().into()]
            });
            tx.sql("DELETE FROM port_leases WHERE (deployment_id, node_id) IN (SELECT v.column1, n.id FROM ")
                .rows(rows)
                .push(
                    " JOIN nodes n ON n.name = v.column2 WHERE NOT EXISTS (SELECT 1 FROM revisions r WHERE r.deployment_id = v.column1 \
                     AND r.node_id = n.id AND r.status NOT IN ('FAILED', 'ROLLED_BACK', 'CANCELLED', 'SUPERSEDED', 'COMPLETED', 'DESTROYED')))",
                )
                .run(&*tx)
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Makes the pictures of these nodes due, in the order of their ids, if they are not due sooner.
pub(super) async fn assignments_due(
    tx: &Tx<'_>,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Result<(), StoreError> {
    let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
    if nodes.is_empty() {
        return Ok(());
    }
    tx.sql("WITH these AS MATERIALIZED (SELECT n.id FROM nodes n WHERE n.id")
        .one_of(nodes)
        .push(" ORDER BY n.id")
        .locked("n")
        .push(") UPDATE nodes SET assignments_due_at = ")
        .later(SOON)
        .push(" WHERE id IN (SELECT id FROM these) AND (assignments_due_at IS NULL OR assignments_due_at > ")
        .later(SOON)
        .push(")")
        .run(&**tx)
        .await?;
    Ok(())
}

impl From<Row> for Assigned {
    fn from(row: Row) -> Self {
        Self {
            deployment_id: row.deployment_id,
            deployment_name: row.name,
            revision_id: row.revision_id,
            revision: row.number,
            epoch: row.epoch,
            last_report_seq: row.last_report_seq,
            status: row.status,
            destroying: row.desired_state == DesiredState::Destroyed,
        }
    }
}
