//! Giving up a revision that is on its way.
//!
//! The deployment action itself was interrupted when the order arrived; here is what is left of it,
//! also when it was never begun, or by another process.

use super::stop::retry;
use super::{Action, Ending, retire};
use crate::journal::{Attempt, StepReport};
use crate::runtime::StepError;
use shared::status::{ApplicationStatus as S, FailureReason};
use std::time::Duration;

/// Does it. A revision that came to its end or is running is left as it is.
pub(super) async fn run(action: &Action) -> Result<Ending, StepError> {
    let request = action.request();
    let standing = action.core.journal.read(|state| {
        state
            .standings
            .get(&request.revision_id)
            .and_then(|known| known.status)
    });
    let running = action.running().map(|running| running.attempt.epoch);
    let is_running = running.is_some_and(|epoch| epoch >= request.epoch);
    if is_running || standing.is_some_and(|status| !status.is_open()) {
        return Ok(action.finish(|_| {}).await);
    }
    if let Some(epoch) = running {
        // An older attempt serves here although the store had placed the revision anew.
        let stale = Attempt {
            revision: request.revision,
            epoch,
        };
        super::evict(&action.core, request.deployment_id, stale)
            .await
            .map_err(retry)?;
    }
    // Of what it never began it made nothing. What a lost journal knew may serve: the next picture
    // says whether it is to go.
    if standing.is_some() || running.is_some() {
        remove_candidate(action).await?;
    }
    shared::fail_point!("node::cancel::before_report");
    let node = &action.core.settings.name;
    let mine = action.attempt();
    let step = StepReport {
        failure_reason: Some(FailureReason::Cancelled),
        detail: Some("cancelled on request".to_owned()),
        ..StepReport::default()
    };
    let ending = action
        .finish(|draft| {
            draft.deployment_edit(request.deployment_id, |record| {
                record.retiring.retain(|other| *other != mine)
            });
            draft.report(
                node,
                request.deployment_id,
                request.revision_id,
                request.epoch,
                S::Cancelled,
                step,
            );
        })
        .await;
    Ok(ending)
}

async fn remove_candidate(action: &Action) -> Result<(), StepError> {
    let mine = action.attempt();
    let is_meant =
        move |found: Attempt| found.revision == mine.revision && found.epoch <= mine.epoch;
    let deployment_id = action.request().deployment_id;
    retire::remove_containers(&action.core, deployment_id, is_meant, Duration::ZERO)
        .await
        .map_err(retry)
}
