//! What the scheduler is told of nodes.

use super::{Store, StoreError};
use crate::scheduler::Candidate;
use sea_orm::FromQueryResult;
use shared::id::NodeId;
use shared::name::NodeName;
use shared::status::NodeStatus;

#[derive(FromQueryResult)]
struct Row {
    id: NodeId,
    name: NodeName,
    status: NodeStatus,
    detail: Option<String>,
    cpu_millis: i64,
    memory_bytes: i64,
    cpu_declared_millis: i64,
    memory_declared_bytes: i64,
    running: i64,
    under_way: i64,
}

impl Store {
    /// Every node, with what runs on it by its last heartbeat and what is on its way there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_for_placement(&self) -> Result<Vec<Candidate>, StoreError> {
        let rows: Vec<Row> = self
            .sql(
                "SELECT n.id, n.name, n.status, n.detail, CAST(n.cpu_millis AS BIGINT) AS cpu_millis, n.memory_bytes, \
                 CAST(n.cpu_declared_millis AS BIGINT) AS cpu_declared_millis, n.memory_declared_bytes, \
                 CAST(n.running AS BIGINT) AS running, COALESCE(u.under_way, 0) AS under_way FROM nodes n LEFT JOIN \
                 (SELECT node_id, COUNT(*) AS under_way FROM revisions \
                 WHERE status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING') GROUP BY node_id) u \
                 ON u.node_id = n.id ORDER BY n.name",
            )
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(Candidate::from).collect())
    }
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            id: row.id,
            name: row.name,
            status: row.status,
            detail: row.detail,
            cpu_millis: count(row.cpu_millis),
            memory_bytes: count(row.memory_bytes),
            cpu_declared_millis: count(row.cpu_declared_millis),
            memory_declared_bytes: count(row.memory_declared_bytes),
            running: count(row.running) + count(row.under_way),
        }
    }
}
