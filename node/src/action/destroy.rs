//! Removing everything of a deployment from this node.

use super::stop::retry;
use super::{Action, Ending};
use crate::core::Core;
use crate::journal::StepReport;
use crate::runtime::StepError;
use shared::id::DeploymentId;
use shared::source::GitUrl;
use shared::status::ApplicationStatus as S;

/// Does it. Destroying twice, or what this node never had, is fine.
pub(super) async fn run(action: &Action, volumes: bool) -> Result<Ending, StepError> {
    let core = &action.core;
    let request = action.request();
    let deployment_id = request.deployment_id;
    core.sentinels.forget(deployment_id).await;
    core.routes
        .clear(&*core.runtime, deployment_id)
        .await
        .map_err(retry)?;
    shared::fail_point!("node::destroy::before_purge");
    core.runtime
        .purge(deployment_id, volumes)
        .await
        .map_err(retry)?;
    if let Some(url) = repository_of_no_other(core, deployment_id) {
        core.runtime.forget_repository(&url).await.map_err(retry)?;
    }
    tracing::info!(%deployment_id, name = %request.deployment_name, "a deployment is gone");
    shared::fail_point!("node::destroy::after_purge_before_report");
    let node = &core.settings.name;
    let ending = action
        .finish(|draft| {
            draft.report(
                node,
                deployment_id,
                request.revision_id,
                request.epoch,
                S::Destroyed,
                StepReport::default(),
            );
            draft.deployment_destroyed(deployment_id);
        })
        .await;
    Ok(ending)
}

/// The deployment's repository, unless another deployment is fetched from it too.
pub(super) fn repository_of_no_other(core: &Core, deployment_id: DeploymentId) -> Option<GitUrl> {
    core.journal.read(|state| {
        let url = state.deployments.get(&deployment_id)?.repository.clone()?;
        let is_shared = state.deployments.values().any(|other| {
            other.deployment_id != deployment_id && other.repository.as_ref() == Some(&url)
        });
        (!is_shared).then_some(url)
    })
}
