//! Revisions that wait for a node, each held by one dispatcher at a time: its row and its
//! deployment's are locked until they are given to nodes, in the same transaction.

use super::dispatch::Wanted;
use super::ledger::{STANDING_COLUMNS, Standing};
use super::sql::ROWS_AT_ONCE;
use super::waiting::RequestedRevision;
use super::{Store, StoreError, Tx};
use sea_orm::FromQueryResult;
use shared::id::{NodeId, RevisionId, StoreIncarnation};
use shared::name::{DeploymentName, NodeName};
use std::collections::HashMap;

/// Revisions that nobody else can give away while this lives. Dropped, they are free again and
/// nothing has changed.
pub struct Claim<'a> {
    pub(super) tx: Tx<'a>,
    pub(super) store: StoreIncarnation,
    pub(super) held: HashMap<RevisionId, Held>,
    /// What was claimed, oldest first.
    pub revisions: Vec<RequestedRevision>,
    /// How many were left out because somebody else had them, or something of their deployments.
    pub passed_over: usize,
}

/// A claimed revision as it is given to a node.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) standing: Standing,
    pub(super) deployment_name: DeploymentName,
    pub(super) wanted: Wanted,
    /// The node that the deployment is on.
    pub(super) current_node: Option<NodeId>,
}

#[derive(FromQueryResult)]
struct Row {
    #[sea_orm(nested)]
    standing: Standing,
    #[sea_orm(nested)]
    wanted: Wanted,
    deployment_name: DeploymentName,
    pinned_node: Option<NodeName>,
    current_node: Option<NodeId>,
}

impl Store {
    /// Claims those of these revisions that are still REQUESTED and that nobody else holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&self, ids: &[RevisionId]) -> Result<Claim<'_>, StoreError> {
        let tx = self.write().await?;
        let mut rows: Vec<Row> = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(ROWS_AT_ONCE) {
            let locked = tx
                .sql("SELECT ")
                .push(STANDING_COLUMNS)
                .push(
                    ", r.source, r.method, r.wanted_commit, d.name AS deployment_name, d.pinned_node, d.node_id AS current_node \
                     FROM revisions r JOIN deployments d ON d.id = r.deployment_id \
                     WHERE r.status = 'REQUESTED' AND d.desired_state <> 'DESTROYED' AND r.id",
                )
                .one_of(chunk.iter().copied())
                .push(" ORDER BY r.id")
                // Never waited for: whoever waits here for a deployment could be waited for there for
                // its revision.
                .locked_or_skipped("d, r")
                .all::<Row>(&*tx)
                .await?;
            rows.extend(locked);
        }
        let passed_over = ids.len() - rows.len();
        let revisions = rows.iter().map(RequestedRevision::from).collect();
        let held = rows.into_iter().map(|row| {
            let held = Held {
                standing: row.standing,
                deployment_name: row.deployment_name,
                wanted: row.wanted,
                current_node: row.current_node,
            };
            (held.standing.id, held)
        });
        Ok(Claim {
            held: held.collect(),
            tx,
            store: self.incarnation(),
            revisions,
            passed_over,
        })
    }
}

impl From<&Row> for RequestedRevision {
    fn from(row: &Row) -> Self {
        Self {
            id: row.standing.id,
            deployment_id: row.standing.deployment_id,
            pinned_node: row.pinned_node.clone(),
            current_node: row.current_node,
            status_detail: row.standing.status_detail.clone(),
        }
    }
}
