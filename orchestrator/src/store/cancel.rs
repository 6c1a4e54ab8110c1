//! Giving revisions up.

use super::acting::{Acted, Acting};
use super::entity::revision;
use super::ledger::{Because, Ledger, standings};
use super::offer::offers_withdraw;
use super::revise::living;
use super::{Store, StoreError};
use crate::error::CommandError;
use sea_orm::{EntityTrait, FromQueryResult};
use shared::id::RevisionId;
use shared::message::StatusEvent;
use shared::status::{ApplicationStatus, FailureReason};
use std::time::Duration;

#[derive(FromQueryResult)]
struct Overdue {
    id: RevisionId,
}

impl Store {
    /// Gives a revision up: at once when no node has it yet, else by asking its node.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it is not on its way or its deployment is being destroyed;
    /// `UNAVAILABLE`.
    pub async fn revision_cancel(&self, id: RevisionId) -> Result<Acted, CommandError> {
        let found = revision::Entity::find_by_id(id)
            .one(self.reader())
            .await
            .map_err(StoreError::from)?;
        let deployment_id = found
            .ok_or_else(|| CommandError::not_found("revision", id))?
            .deployment_id;
        let tx = self.write().await?;
        let deployment = living(&tx, deployment_id).await?;
        let mut rows = standings(&tx, [id]).await?;
        let standing = rows
            .first_mut()
            .ok_or_else(|| CommandError::not_found("revision", id))?;
        if !standing.status.is_open() {
            let (number, status) = (standing.number, standing.status);
            return Err(CommandError::conflict(format!(
                "revision {number} of `{}` is {status}: there is nothing to cancel",
                deployment.name
            )));
        }
        if standing.is_restarting() {
            let number = standing.number;
            let what = format!(
                "revision {number} of `{}` is being restarted, not deployed: stop the deployment instead",
                deployment.name
            );
            return Err(CommandError::conflict(what));
        }
        let mut acting = Acting::new(self.incarnation(), &deployment);
        acting.ask(
            standing,
            ApplicationStatus::Cancelled,
            "cancelled on request",
        );
        let acted = acting.save(&tx).await?;
        tx.commit().await?;
        Ok(acted)
    }

    /// Ends revisions that were asked to give up and whose node is lost, or has not taken the request
    /// within `patience` of its publication. The raised epoch shuts out what that node may still say.
    ///
    /// What is being destroyed is left alone: its end is the destruction, whose answer comes with the
    /// epoch that it was ordered with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancels_settle(&self, patience: Duration) -> Result<Vec<StatusEvent>, StoreError> {
        let tx = self.write().await?;
        let overdue: Vec<Overdue> = tx
            .sql(
                "SELECT r.id FROM revisions r JOIN deployments d ON d.id = r.deployment_id JOIN nodes n ON n.id = r.node_id \
                 WHERE r.is_placed AND r.cancel_requested_at IS NOT NULL AND d.desired_state <> 'DESTROYED' AND r.status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING') AND (n.status = 'LOST' OR EXISTS \
                 (SELECT 1 FROM work_requests w WHERE w.revision_id = r.id AND w.finished_at IS NULL AND w.kind = 'CANCEL' AND w.accepted_at IS NULL \
                 AND w.published_at < ",
            )
            .earlier(patience)
            .push(")) ORDER BY r.id LIMIT 500")
            // The deployment too: a wish to destroy it must come before all this, or after.
            .locked_or_skipped("d, r")
            .all(&*tx)
            .await?;
        let mut ledger = Ledger::default();
        for mut standing in standings(&tx, overdue.iter().map(|row| row.id)).await? {
            standing.epoch += 1;
            standing.last_report_seq = 0;
            let into = standing.cancel_into.unwrap_or(ApplicationStatus::Cancelled);
            let because = Because {
                failure_reason: (into == ApplicationStatus::Cancelled)
                    .then_some(FailureReason::Cancelled),
                detail: Some(
                    "its node did not answer; what it may still run is removed when it does"
                        .to_owned(),
                ),
                ..Because::default()
            };
            ledger.step(&mut standing, into, because);
        }
        if !overdue.is_empty() {
            // Its deployment action must not be sent again; the request to give up still must.
            tx.sql("UPDATE work_requests SET finished_at = ")
                .now()
                .push(", refused_reason = 'given up' WHERE finished_at IS NULL AND kind = 'DEPLOY' AND revision_id")
                .one_of(overdue.iter().map(|row| row.id))
                .run(&*tx)
                .await?;
            offers_withdraw(&tx, overdue.iter().map(|row| row.id)).await?;
        }
        let steps = ledger.save(&tx).await?;
        tx.commit().await?;
        Ok(steps)
    }
}
