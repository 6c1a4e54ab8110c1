//! Revisions that wait for a node: which there are, and why. Neither locks what nothing is given to.

use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::name::NodeName;
use uuid::Uuid;

/// A revision that waits for a node.
#[derive(Clone, Debug, FromQueryResult)]
pub struct RequestedRevision {
    /// The revision.
    pub id: RevisionId,
    /// Its deployment.
    pub deployment_id: DeploymentId,
    /// The node that it must run on.
    pub pinned_node: Option<NodeName>,
    /// The node that the deployment is on: its ports and volumes are there.
    pub current_node: Option<NodeId>,
    /// Why it waits, as it was last said.
    pub status_detail: Option<String>,
}

impl Store {
    /// Up to `limit` revisions that are REQUESTED, oldest first, beginning after `after`. Left out are
    /// those whose deployment has an older revision under way: one action at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn requested(
        &self,
        after: Option<RevisionId>,
        limit: usize,
    ) -> Result<Vec<RequestedRevision>, StoreError> {
        self.sql(
                "SELECT r.id, r.deployment_id, r.status_detail, d.pinned_node, d.node_id AS current_node \
                 FROM revisions r JOIN deployments d ON d.id = r.deployment_id \
                 WHERE r.is_requested AND d.desired_state <> 'DESTROYED' AND r.id > ",
            )
            .bind(after.unwrap_or(RevisionId(Uuid::nil())))
            .push(
                " AND (r.number = 1 OR NOT EXISTS (SELECT 1 FROM revisions o WHERE o.deployment_id = r.deployment_id AND o.number < r.number \
                 AND o.status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING'))) ORDER BY r.id LIMIT ",
            )
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .all(self.reader())
            .await
    }

    /// Writes why revisions wait. What is no longer REQUESTED has another reason for where it stands, and
    /// what somebody else has in hand is told by them, or at the next look.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn say_why(&self, waiting: &[(RevisionId, String)]) -> Result<(), StoreError> {
        for chunk in waiting.chunks(ROWS_AT_ONCE) {
            let tx = self.write().await?;
            tx.sql("UPDATE revisions SET status_detail = v.column2 FROM ")
                .rows(
                    chunk
                        .iter()
                        .map(|(id, why)| [(*id).into(), why.clone().into()]),
                )
                .push(
                    " WHERE revisions.id = v.column1 AND revisions.id IN \
                     (SELECT r.id FROM revisions r WHERE r.status = 'REQUESTED' AND r.id",
                )
                .one_of(chunk.iter().map(|(id, _)| *id))
                .locked_or_skipped("r")
                .push(")")
                .run(&*tx)
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
