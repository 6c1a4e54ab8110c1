//! What the scheduler is told of nodes.

use super::claim::Claim;
use super::column::JsonText;
use super::sql::{ROWS_AT_ONCE, Sql};
use super::{Store, StoreError};
use crate::scheduler::Candidate;
use sea_orm::{ConnectionTrait, FromQueryResult};
use shared::id::{DeploymentId, NodeId};
use shared::name::NodeName;
use shared::spec::DeploymentSpec;
use shared::status::NodeStatus;
use std::collections::HashSet;

#[derive(FromQueryResult)]
struct Row {
    id: NodeId,
    name: NodeName,
    status: NodeStatus,
    detail: Option<String>,
    cordoned: bool,
    draining: bool,
    cpu_millis: i64,
    memory_bytes: i64,
    cpu_declared_millis: i64,
    memory_declared_bytes: i64,
    running: i64,
    under_way: i64,
}

#[derive(FromQueryResult)]
struct Served {
    id: DeploymentId,
    spec: JsonText<DeploymentSpec>,
}

impl Store {
    /// Every node of the fleet, with what runs on it by its last heartbeat and what is on its way there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_for_placement(&self) -> Result<Vec<Candidate>, StoreError> {
        let rows: Vec<Row> = self
            .sql(
                "SELECT n.id, n.name, n.status, n.detail, n.cordoned, COALESCE(n.drain_until > ",
            )
            .now()
            .push(
                ", FALSE) AS draining, CAST(n.cpu_millis AS BIGINT) AS cpu_millis, n.memory_bytes, \
                 CAST(n.cpu_declared_millis AS BIGINT) AS cpu_declared_millis, n.memory_declared_bytes, \
                 CAST(n.running AS BIGINT) AS running, COALESCE(u.under_way, 0) AS under_way FROM nodes n LEFT JOIN \
                 (SELECT node_id, COUNT(*) AS under_way FROM work_requests \
                 WHERE finished_at IS NULL AND kind = 'DEPLOY' GROUP BY node_id) u \
                 ON u.node_id = n.id WHERE n.removed_at IS NULL ORDER BY n.name",
            )
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(Candidate::from).collect())
    }
}

impl Store {
    /// Which of these deployments have volumes on the node that they are on, by what served last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn with_volumes(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashSet<DeploymentId>, StoreError> {
        with_volumes(self.reader(), ids).await
    }
}

impl Claim<'_> {
    /// The same, read in the claim's own transaction: it waits for nothing else while it holds rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn with_volumes(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashSet<DeploymentId>, StoreError> {
        with_volumes(&*self.tx, ids).await
    }
}

async fn with_volumes(
    db: &impl ConnectionTrait,
    ids: &[DeploymentId],
) -> Result<HashSet<DeploymentId>, StoreError> {
    let mut found = HashSet::new();
    for chunk in ids.chunks(ROWS_AT_ONCE) {
        let served: Vec<Served> = Sql::new(
            db.get_database_backend(),
            "SELECT d.id, r.spec FROM deployments d JOIN revisions r ON r.id = d.active_revision_id \
             WHERE r.spec IS NOT NULL AND d.id",
        )
        .one_of(chunk.iter().copied())
        .all(db)
        .await?;
        let kept = served
            .into_iter()
            .filter(|served| served.spec.0.has_volumes());
        found.extend(kept.map(|served| served.id));
    }
    Ok(found)
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            id: row.id,
            name: row.name,
            status: row.status,
            detail: row.detail,
            cordoned: row.cordoned,
            draining: row.draining,
            cpu_millis: count(row.cpu_millis),
            memory_bytes: count(row.memory_bytes),
            cpu_declared_millis: count(row.cpu_declared_millis),
            memory_declared_bytes: count(row.memory_declared_bytes),
            running: count(row.running) + count(row.under_way),
        }
    }
}
