//! Removing what the orchestrator no longer wants on this node, although nobody ordered it: attempts
//! that were placed anew elsewhere, and whole deployments that moved away.
//!
//! Volumes are never touched: only a destroy that says so removes data.

use super::{destroy, retire, routes};
use crate::core::Core;
use crate::journal::{Attempt, JournalError};
use crate::runtime::{PortRoute, RuntimeError};
use futures::future::join_all;
use shared::id::DeploymentId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Takes an attempt that serves out of the routes and removes its containers; returns once they are
/// gone. An attempt that does not serve is left alone.
pub(crate) async fn evict(
    core: &Arc<Core>,
    deployment_id: DeploymentId,
    stale: Attempt,
) -> Result<(), RuntimeError> {
    let Some(led) = serving(core, deployment_id, stale) else {
        return Ok(());
    };
    core.sentinels.forget(deployment_id).await;
    core.routes.clear(&*core.runtime, deployment_id).await?;
    // From here on a process that ends in the middle is followed by one that goes on.
    let marked = core
        .journal
        .change(|draft| {
            draft.deployment_edit(deployment_id, |record| {
                record.current = None;
                if !record.retiring.contains(&stale) {
                    record.retiring.push(stale);
                }
            });
        })
        .await;
    marked.map_err(is_ending)?;
    tracing::info!(%deployment_id, ?stale, "an attempt that is not meant to run here any more is taken down");
    let gone = retire::retire_until_done(core, deployment_id, stale, &led);
    core.stop
        .run_until_cancelled(gone)
        .await
        .ok_or_else(|| is_ending(JournalError::Closed))
}

/// Where the ports of an attempt lead, when it is the one that serves.
fn serving(core: &Core, deployment_id: DeploymentId, attempt: Attempt) -> Option<Vec<PortRoute>> {
    core.journal.read(|state| {
        let record = state.deployments.get(&deployment_id)?;
        let current = record.current.as_ref()?;
        (current.attempt == attempt).then(|| routes::of(current))
    })
}

/// Removes the containers of attempts that only their labels tell of.
pub(crate) async fn remove_strays(
    core: &Core,
    deployment_id: DeploymentId,
    strays: &BTreeSet<Attempt>,
) -> Result<(), RuntimeError> {
    tracing::info!(%deployment_id, ?strays, "containers that nobody knows are removed");
    retire::remove_containers(
        core,
        deployment_id,
        |found| strays.contains(&found),
        core.settings.stop_grace,
    )
    .await
}

/// Removes everything of a deployment but its volumes, forgets it and says so, as of a picture.
pub(crate) async fn leave(
    core: &Arc<Core>,
    deployment_id: DeploymentId,
    as_of: i64,
) -> Result<(), RuntimeError> {
    let marked = core
        .journal
        .change(|draft| {
            draft.deployment_leaves(deployment_id);
            let record = draft.state().deployments.get(&deployment_id)?;
            record.current.as_ref().map(routes::of)
        })
        .await;
    let led = marked.map_err(is_ending)?.unwrap_or_default();
    core.sentinels.forget(deployment_id).await;
    core.routes.clear(&*core.runtime, deployment_id).await?;
    join_all(
        led.iter()
            .map(|route| core.runtime.drained(route, core.settings.drain)),
    )
    .await;
    core.runtime.purge(deployment_id, false).await?;
    if let Some(url) = destroy::repository_of_no_other(core, deployment_id) {
        core.runtime.forget_repository(&url).await?;
    }
    tracing::info!(%deployment_id, "a deployment that is not assigned to this node any more is gone from it");
    let node = &core.settings.name;
    let left = core
        .journal
        .change(|draft| draft.deployment_left(node, deployment_id, as_of))
        .await;
    core.changed.notify_one();
    left.map_err(is_ending)
}

/// The journal is closed, so the process is ending: the next one does it.
fn is_ending(error: JournalError) -> RuntimeError {
    RuntimeError::Away(error.to_string())
}
