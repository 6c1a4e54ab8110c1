//! Removing what is no longer meant to run: replaced revisions and candidates that failed.
//!
//! Which attempts are on their way out stands in the journal before anything of them is made or
//! replaced, so that no end of a process leaves a container behind.

use crate::backoff::Backoff;
use crate::core::Core;
use crate::journal::Attempt;
use crate::runtime::{ContainerFacts, PortRoute, RuntimeError};
use futures::future::{join_all, try_join_all};
use shared::id::DeploymentId;
use std::sync::Arc;
use std::time::Duration;

/// Removes the containers of one attempt, at once.
pub(super) async fn remove_containers(
    core: &Core,
    deployment_id: DeploymentId,
    is_meant: impl Fn(Attempt) -> bool + Send,
    grace: Duration,
) -> Result<(), RuntimeError> {
    let containers = core.runtime.list(Some(deployment_id)).await?;
    let meant: Vec<&ContainerFacts> = containers
        .iter()
        .filter(|container| is_meant(container.attempt))
        .collect();
    let remove = |container: &&ContainerFacts| {
        let id = container.id.clone();
        async move {
            core.runtime.stop(&id, grace).await?;
            core.runtime.remove(&id).await
        }
    };
    try_join_all(meant.iter().map(remove)).await.map(drop)
}

/// Removes the containers of an attempt that is marked as retiring, once the connections to where
/// `led` leads have ended or had their time, and then forgets the mark. Goes on by itself until it
/// is done or the node stops.
pub(crate) fn retire(
    core: &Arc<Core>,
    deployment_id: DeploymentId,
    attempt: Attempt,
    led: Vec<PortRoute>,
) {
    let core = core.clone();
    let stop = core.stop.clone();
    core.clone().tasks.spawn(async move {
        // Stopping in the middle is fine: the mark is in the journal.
        let _ = stop
            .run_until_cancelled(retire_until_done(&core, deployment_id, attempt, &led))
            .await;
    });
}

/// As [`retire`], and returns once it is done.
pub(super) async fn retire_until_done(
    core: &Core,
    deployment_id: DeploymentId,
    attempt: Attempt,
    led: &[PortRoute],
) {
    join_all(
        led.iter()
            .map(|route| core.runtime.drained(route, core.settings.drain)),
    )
    .await;
    let mut pause = Backoff::default();
    loop {
        // A destroyed deployment took its marks along.
        let is_due = core.journal.read(|state| {
            state
                .deployments
                .get(&deployment_id)
                .is_some_and(|record| record.retiring.contains(&attempt))
        });
        if !is_due {
            return;
        }
        shared::fail_point!("node::retire::before_remove");
        match remove_containers(
            core,
            deployment_id,
            |found| found == attempt,
            core.settings.stop_grace,
        )
        .await
        {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(%deployment_id, ?attempt, %error, "a replaced revision could not be removed yet");
            }
        }
        pause.wait().await;
        core.engine_is_up().await;
    }
    shared::fail_point!("node::retire::after_remove_before_forget");
    if let Err(error) = core
        .journal
        .change(|draft| forget(draft, deployment_id, attempt))
        .await
    {
        tracing::debug!(%error, "the mark stays for the next process");
    }
    super::images::remove_old(core, deployment_id).await;
}

fn forget(draft: &mut crate::journal::Draft<'_>, deployment_id: DeploymentId, attempt: Attempt) {
    draft.deployment_edit(deployment_id, |record| {
        record.retiring.retain(|other| *other != attempt)
    });
}

/// Removes what an attempt made that this node is told is not to be: it is older than another one,
/// or its deployment is gone. What serves is left alone.
pub(crate) fn disown(core: &Arc<Core>, deployment_id: DeploymentId, attempt: Attempt) {
    let core = core.clone();
    core.clone().tasks.spawn(async move {
        let current = core.journal.read(|state| {
            let record = state.deployments.get(&deployment_id);
            record.and_then(|record| record.current.as_ref()).map(|running| running.attempt)
        });
        let is_meant = |found: Attempt| {
            found.revision == attempt.revision && found.epoch <= attempt.epoch && Some(found) != current
        };
        let removed = remove_containers(&core, deployment_id, is_meant, Duration::ZERO);
        if let Some(Err(error)) = core.stop.run_until_cancelled(removed).await {
            tracing::warn!(%deployment_id, ?attempt, %error, "what an older attempt made could not be removed");
        }
    });
}
