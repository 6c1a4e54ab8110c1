//! What is still to be destroyed or stopped on nodes that left the fleet: nobody will ever say that
//! it is.

use super::column::now;
use super::dispatch::deployments_lock;
use super::ledger::{Because, Ledger, standings, standings_of};
use super::report::deployment_free_names;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::status::{ApplicationStatus, DesiredState, FailureReason};
use std::collections::BTreeSet;

#[derive(FromQueryResult)]
struct Left {
    id: RevisionId,
}

#[derive(FromQueryResult)]
struct Row {
    deployment_id: DeploymentId,
    node_id: NodeId,
}

impl Store {
    /// Ends destructions that wait for a node which was removed, a batch of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn left_behind_settle(&self) -> Result<Vec<StatusEvent>, StoreError> {
        let tx = self.write().await?;
        let rows: Vec<Row> = tx
            .sql(
                "SELECT d.id AS deployment_id, n.id AS node_id FROM nodes n JOIN revisions r ON r.node_id = n.id \
                 JOIN deployments d ON d.id = r.deployment_id WHERE n.removed_at IS NOT NULL AND r.status <> 'DESTROYED' \
                 AND d.desired_state = 'DESTROYED' AND d.live_name IS NOT NULL ORDER BY d.id LIMIT ",
            )
            .bind(i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX))
            .locked_or_skipped("d")
            .all(&*tx)
            .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let removed: BTreeSet<NodeId> = rows.iter().map(|row| row.node_id).collect();
        let ids: BTreeSet<DeploymentId> = rows.iter().map(|row| row.deployment_id).collect();
        let deployments = deployments_lock(&tx, ids.iter().copied()).await?;
        let is_going = |id: &DeploymentId| {
            deployments
                .get(id)
                .is_some_and(|row| row.desired_state == DesiredState::Destroyed)
        };
        let mut ledger = Ledger::default();
        let mut done: BTreeSet<DeploymentId> = ids.into_iter().filter(is_going).collect();
        for mut standing in standings_of(&tx, done.clone()).await? {
            if standing.node_id.is_some_and(|id| removed.contains(&id)) {
                let because = Because::of("its node was removed");
                ledger.step(&mut standing, ApplicationStatus::Destroyed, because);
            } else {
                // Another node has something of it, and is asked.
                done.remove(&standing.deployment_id);
            }
        }
        tx.sql("UPDATE work_requests SET finished_at = ")
            .now()
            .push(", refused_reason = 'its node was removed' WHERE finished_at IS NULL AND node_id")
            .one_of(removed)
            .run(&*tx)
            .await?;
        if !done.is_empty() {
            tx.sql("DELETE FROM port_leases WHERE deployment_id")
                .one_of(done.iter().copied())
                .run(&*tx)
                .await?;
            deployment_free_names(&tx, done, now()).await?;
        }
        let steps = ledger.save(&tx).await?;
        tx.commit().await?;
        Ok(steps)
    }

    /// Ends what was to be moved off a node that was removed, and is to be stopped instead: no other
    /// node will take it over, and its own will not answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn left_stopped_settle(&self) -> Result<Vec<StatusEvent>, StoreError> {
        let tx = self.write().await?;
        let left: Vec<Left> = tx
            .sql(
                "SELECT r.id FROM nodes n JOIN revisions r ON r.node_id = n.id JOIN deployments d ON d.id = r.deployment_id \
                 WHERE n.removed_at IS NOT NULL AND r.is_placed AND d.desired_state = 'STOPPED' ORDER BY r.id LIMIT ",
            )
            .bind(i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX))
            .locked_or_skipped("d, r")
            .all(&*tx)
            .await?;
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<RevisionId> = left.into_iter().map(|left| left.id).collect();
        let mut ledger = Ledger::default();
        for mut standing in standings(&tx, ids.iter().copied()).await? {
            let because = Because {
                failure_reason: Some(FailureReason::NodeLost),
                ..Because::of("its node was removed: redeploy it")
            };
            ledger.step(&mut standing, ApplicationStatus::Failed, because);
        }
        tx.sql("UPDATE work_requests SET finished_at = ")
            .now()
            .push(", refused_reason = 'its node was removed' WHERE finished_at IS NULL AND revision_id")
            .one_of(ids)
            .run(&*tx)
            .await?;
        let steps = ledger.save(&tx).await?;
        tx.commit().await?;
        Ok(steps)
    }
}
