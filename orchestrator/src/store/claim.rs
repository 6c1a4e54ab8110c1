//! Revisions that wait for a node, claimed by one dispatcher at a time.

use super::column::JsonText;
use super::{Store, StoreError};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, OrchestratorId, RevisionId};
use shared::name::{DeploymentName, NodeName};
use shared::source::Source;
use std::time::Duration;
use uuid::Uuid;

/// Revisions that are this caller's for a while. After that somebody else may claim them, and what
/// is written with this token is refused.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Proves the claim.
    pub token: Uuid,
    /// What was claimed, oldest first.
    pub revisions: Vec<RequestedRevision>,
}

/// A revision that waits for a node.
#[derive(Clone, Debug)]
pub struct RequestedRevision {
    /// The revision.
    pub id: RevisionId,
    /// Its number within the deployment.
    pub number: i32,
    /// Its deployment.
    pub deployment_id: DeploymentId,
    /// The deployment's name.
    pub deployment_name: DeploymentName,
    /// Where its version comes from.
    pub source: Source,
    /// The node that it must run on.
    pub pinned_node: Option<NodeName>,
    /// The node that the deployment is on: its ports and volumes are there.
    pub current_node: Option<NodeId>,
    /// Why it waits, as it was last said.
    pub status_detail: Option<String>,
}

#[derive(FromQueryResult)]
struct Row {
    id: RevisionId,
    number: i32,
    deployment_id: DeploymentId,
    name: DeploymentName,
    source: JsonText<Source>,
    pinned_node: Option<NodeName>,
    node_id: Option<NodeId>,
    status_detail: Option<String>,
}

#[derive(FromQueryResult)]
struct Claimed {
    id: RevisionId,
}

impl Store {
    /// Claims up to `limit` revisions that are REQUESTED, oldest first, beginning after `after`, for
    /// as long as `lease`. Left out are those that somebody else has claimed, and those whose
    /// deployment has an older revision under way: one action at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_requested(
        &self,
        by: OrchestratorId,
        after: Option<RevisionId>,
        limit: u64,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let token = Uuid::new_v4();
        let tx = self.write().await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let candidates = tx
            .sql(
                "WITH waiting AS MATERIALIZED (SELECT r.id FROM revisions r JOIN deployments d ON d.id = r.deployment_id \
                 WHERE r.status = 'REQUESTED' AND d.desired_state <> 'DESTROYED' AND r.id > ",
            )
            .bind(after.unwrap_or(RevisionId(Uuid::nil())))
            .push(" AND (r.claimed_until IS NULL OR r.claimed_until < ")
            .now()
            .push(
                ") AND NOT EXISTS (SELECT 1 FROM revisions o WHERE o.deployment_id = r.deployment_id AND o.number < r.number \
                 AND o.status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING')) ORDER BY r.id LIMIT ",
            )
            .bind(limit)
            .locked_or_skipped("r")
            .push(") UPDATE revisions SET claimed_by = ")
            .bind(by)
            .push(", claim_token = ")
            .bind(token)
            .push(", claimed_until = ")
            .later(lease)
            .push(" WHERE id IN (SELECT id FROM waiting) RETURNING id");
        let claimed: Vec<Claimed> = candidates.all(&*tx).await?;
        let rows: Vec<Row> = if claimed.is_empty() {
            Vec::new()
        } else {
            tx.sql(
                "SELECT r.id, r.number, r.deployment_id, d.name, r.source, d.pinned_node, d.node_id, r.status_detail \
                 FROM revisions r JOIN deployments d ON d.id = r.deployment_id WHERE r.id",
            )
            .one_of(claimed.into_iter().map(|claimed| claimed.id))
            .push(" ORDER BY r.id")
            .all(&*tx)
            .await?
        };
        tx.commit().await?;
        Ok(Claim {
            token,
            revisions: rows.into_iter().map(RequestedRevision::from).collect(),
        })
    }

    /// Gives claimed revisions back that cannot be placed now, each with why it waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn requested_wait(
        &self,
        token: Uuid,
        waiting: &[(RevisionId, String)],
    ) -> Result<(), StoreError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        for chunk in waiting.chunks(super::sql::ROWS_AT_ONCE) {
            tx.sql(
                "UPDATE revisions SET status_detail = v.column2, claimed_by = NULL, claim_token = NULL, claimed_until = NULL FROM ",
            )
            .rows(chunk.iter().map(|(id, why)| [(*id).into(), why.clone().into()]))
            .push(" WHERE revisions.id = v.column1 AND revisions.status = 'REQUESTED' AND revisions.claim_token = ")
            .bind(token)
            .run(&*tx)
            .await?;
        }
        tx.commit().await
    }
}

impl From<Row> for RequestedRevision {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            number: row.number,
            deployment_id: row.deployment_id,
            deployment_name: row.name,
            source: row.source.0,
            pinned_node: row.pinned_node,
            current_node: row.node_id,
            status_detail: row.status_detail,
        }
    }
}
