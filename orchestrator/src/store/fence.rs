//! Taking revisions away from their nodes: what such a node still says of them is not believed, and
//! another attempt is given out, a bounded number of times.

use super::ledger::{Because, Ledger, Standing};
use super::{StoreError, Tx};
use shared::id::RevisionId;
use shared::status::{ApplicationStatus, FailureReason};

/// How many attempts a revision has before it is FAILED; counted anew each time that it is RUNNING.
pub(super) const ATTEMPTS: i32 = 5;

/// Takes a revision away from its node. It is REQUESTED again, for another attempt; FAILED after
/// [`ATTEMPTS`]; or SUPERSEDED when a `newer` one is on its way, for one action at a time is enough.
///
/// The next attempt has a higher epoch, and until then it has no node: nobody's reports count.
pub(super) fn fence(ledger: &mut Ledger, standing: &mut Standing, newer: Option<i32>, why: &str) {
    standing.attempts = standing.attempts.saturating_add(1);
    if let Some(number) = newer {
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

/// Takes back what fenced revisions had reserved and what was known of their services.
pub(super) async fn fenced_release(
    tx: &Tx<'_>,
    revisions: &[RevisionId],
) -> Result<(), StoreError> {
    if revisions.is_empty() {
        return Ok(());
    }
    tx.sql("DELETE FROM port_leases WHERE state = 'RESERVED' AND revision_id")
        .one_of(revisions.iter().copied())
        .run(&**tx)
        .await?;
    tx.sql("DELETE FROM service_states WHERE revision_id")
        .one_of(revisions.iter().copied())
        .run(&**tx)
        .await?;
    Ok(())
}
