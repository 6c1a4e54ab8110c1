//! Taking revisions away from their nodes: what such a node still says of them is not believed, and
//! another attempt is given out, a bounded number of times.

use super::ledger::{Because, Ledger, Standing};
use super::offer::offers_withdraw;
use super::{StoreError, Tx};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, RevisionId};
use shared::status::{ApplicationStatus, FailureReason};
use std::collections::{HashMap, HashSet};

/// How many attempts a revision has before it is FAILED; counted anew each time that it is RUNNING.
pub(super) const ATTEMPTS: i32 = 5;

/// Takes a revision away from its node. It is REQUESTED again, for another attempt; FAILED after
/// [`ATTEMPTS`]; SUPERSEDED when a `newer` one is on its way, for one action at a time is enough; or
/// what it was asked to become when it was to be given up.
///
/// The next attempt has a higher epoch, and until then it has no node: nobody's reports count.
pub(super) fn fence(ledger: &mut Ledger, standing: &mut Standing, newer: Option<i32>, why: &str) {
    standing.attempts = standing.attempts.saturating_add(1);
    if standing.cancel_requested_at.is_some() {
        let into = standing.cancel_into.unwrap_or(ApplicationStatus::Cancelled);
        let because = Because {
            failure_reason: (into == ApplicationStatus::Cancelled)
                .then_some(FailureReason::Cancelled),
            ..Because::of(format!("{why}; it was to be given up"))
        };
        ledger.step(standing, into, because);
    } else if let Some(number) = newer {
        let detail = format!("{why}; revision {number} was asked for meanwhile");
        ledger.step(standing, ApplicationStatus::Superseded, Because::of(detail));
    } else if standing.attempts >= ATTEMPTS {
        let because = Because {
            failure_reason: Some(FailureReason::NodeLost),
            ..Because::of(format!("given up after {ATTEMPTS} attempts: {why}"))
        };
        ledger.step(standing, ApplicationStatus::Failed, because);
    } else {
        standing.node_id = None;
        let detail = format!("{why}; it is given out again");
        ledger.step(standing, ApplicationStatus::Requested, Because::of(detail));
    }
}

#[derive(FromQueryResult)]
struct Open {
    deployment_id: DeploymentId,
    number: i32,
}

/// The number of the newest revision of each of these deployments that is on its way.
pub(super) async fn newest_open(
    tx: &Tx<'_>,
    deployments: impl IntoIterator<Item = DeploymentId>,
) -> Result<HashMap<DeploymentId, i32>, StoreError> {
    let deployments: HashSet<DeploymentId> = deployments.into_iter().collect();
    if deployments.is_empty() {
        return Ok(HashMap::new());
    }
    let open: Vec<Open> = tx
        .sql(
            "SELECT deployment_id, MAX(number) AS number FROM revisions \
             WHERE status IN ('REQUESTED', 'INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING') \
             AND deployment_id",
        )
        .one_of(deployments)
        .push(" GROUP BY deployment_id")
        .all(&**tx)
        .await?;
    Ok(open
        .into_iter()
        .map(|open| (open.deployment_id, open.number))
        .collect())
}

/// Takes back what fenced revisions were offered and what was known of their services.
pub(super) async fn fenced_release(
    tx: &Tx<'_>,
    revisions: &[RevisionId],
) -> Result<(), StoreError> {
    if revisions.is_empty() {
        return Ok(());
    }
    offers_withdraw(tx, revisions.iter().copied()).await?;
    tx.sql("DELETE FROM service_states WHERE revision_id")
        .one_of(revisions.iter().copied())
        .run(&**tx)
        .await?;
    Ok(())
}
