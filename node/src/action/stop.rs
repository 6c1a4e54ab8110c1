//! Stopping the services of a revision. Containers, ports and volumes are kept.

use super::{Action, Ending, routes, service_facts};
use crate::core::{Core, Subject};
use crate::journal::{RunningRevision, StepReport};
use crate::runtime::{RuntimeError, StepError};
use futures::future::try_join_all;
use shared::id::DeploymentId;
use shared::message::{ReportFacts, ServiceSelection};
use shared::name::ServiceName;
use shared::status::ApplicationStatus as S;
use std::sync::Arc;
use std::time::Duration;

/// Does it. Stopping twice is fine.
pub(super) async fn run(
    action: &Action,
    selection: &ServiceSelection,
) -> Result<Ending, StepError> {
    let core = &action.core;
    let deployment_id = action.request().deployment_id;
    let Some(mut running) = action.running() else {
        return stop_by_labels(action).await;
    };
    core.sentinels.forget(deployment_id).await;
    for service in running
        .services
        .iter_mut()
        .filter(|service| is_selected(selection, &service.name))
    {
        service.stopped = true;
    }
    core.routes
        .set(&*core.runtime, deployment_id, routes::of(&running))
        .await
        .map_err(retry)?;
    stop_containers(core, &running).await.map_err(retry)?;
    shared::fail_point!("node::stop::after_stop_before_report");
    let (status, step) = standing(&running);
    let ending = action
        .finish(|draft| {
            let request = action.request();
            let node = &core.settings.name;
            let services = running.services.clone();
            draft.deployment_edit(deployment_id, |record| {
                if let Some(current) = &mut record.current {
                    current.services = services;
                }
            });
            draft.report(
                node,
                deployment_id,
                request.revision_id,
                request.epoch,
                status,
                step,
            );
        })
        .await;
    core.sentinels.follow(core, deployment_id);
    Ok(ending)
}

/// Whether a selection means a service: an empty one means all.
pub(super) fn is_selected(selection: &ServiceSelection, service: &ServiceName) -> bool {
    selection.services.is_empty() || selection.services.contains(service)
}

/// A selected stop that leaves something running is no stop of the revision.
fn standing(running: &RunningRevision) -> (S, StepReport) {
    let services = Some(service_facts(running, S::Running, |_| 0));
    let facts = ReportFacts {
        services,
        ..ReportFacts::default()
    };
    let status = if running.is_stopped() {
        S::Stopped
    } else {
        S::Running
    };
    (
        status,
        StepReport {
            facts,
            ..StepReport::default()
        },
    )
}

async fn stop_containers(core: &Core, running: &RunningRevision) -> Result<(), RuntimeError> {
    let grace = core.settings.stop_grace;
    let stopped = running.services.iter().filter(|service| service.stopped);
    let stop = stopped.map(|service| core.runtime.stop(&service.container, grace));
    try_join_all(stop).await.map(drop)
}

/// Stops what was stopped on request and was started by hand, and says so. Called in the
/// deployment's lane. Gives whether it is stopped now.
pub(crate) async fn stop_again(core: &Arc<Core>, deployment_id: DeploymentId) -> bool {
    let current = core.journal.read(|state| {
        let record = state.deployments.get(&deployment_id)?;
        record.current.clone()
    });
    let Some(running) = current else {
        return true;
    };
    if let Err(error) = stop_containers(core, &running).await {
        tracing::warn!(%deployment_id, %error, "what was started by hand could not be stopped; this is tried again");
        return false;
    }
    tracing::info!(%deployment_id, "what was stopped on request and started by hand is stopped again");
    if !running.is_stopped() {
        return true;
    }
    let (status, step) = standing(&running);
    let detail = "a container of it was started by hand; it was stopped again";
    let step = StepReport {
        detail: Some(detail.to_owned()),
        ..step
    };
    let subject = Subject {
        deployment_id,
        revision_id: running.revision_id,
        epoch: running.attempt.epoch,
    };
    core.report(subject, status, step).await.is_ok()
}

/// A node that lost its journal still finds a revision's containers by their labels, and the
/// orchestrator has just confirmed which.
async fn stop_by_labels(action: &Action) -> Result<Ending, StepError> {
    let core = &action.core;
    let containers = core
        .runtime
        .list(Some(action.request().deployment_id))
        .await
        .map_err(retry)?;
    let meant = containers
        .iter()
        .filter(|container| container.attempt.revision == action.request().revision);
    let stop = meant.map(|container| core.runtime.stop(&container.id, Duration::from_secs(10)));
    try_join_all(stop).await.map_err(retry)?;
    let detail = "this node has no record of the revision; its containers were found by their labels and stopped";
    Ok(action
        .finish_with(
            S::Stopped,
            StepReport {
                detail: Some(detail.to_owned()),
                ..StepReport::default()
            },
        )
        .await)
}

/// Stopping and removing are never given up: what the engine refuses now it may do later.
pub(super) fn retry(error: RuntimeError) -> StepError {
    error.while_starting()
}
