//! Taking up a revision that runs here although this node has no record of it: its journal was lost.
//!
//! Labels alone are never believed. That this very attempt is to be here is the orchestrator's word,
//! and what it runs comes from there too.

use super::comeback::Comebacks;
use super::deploy::take_over;
use super::{Action, Ending, containers, routes};
use crate::journal::{RunningRevision, RunningService, StepReport};
use crate::runtime::{ContainerFacts, ContainerJob, ContainerState, RuntimeError, StepError};
use shared::message::AdoptWork;
use shared::spec::{ImageSpec, ServiceSpec};
use shared::status::{ApplicationStatus as S, FailureReason};

/// Does it. What cannot be taken up is refused; then the revision is deployed anew.
pub(super) async fn run(action: &Action, work: &AdoptWork) -> Ending {
    let core = &action.core;
    if is_replaced(action) {
        // What took its place says what became of it.
        return action.finish(|_| {}).await;
    }
    let mut comebacks = Comebacks::default();
    loop {
        match attempt(action, work).await {
            Ok(running) => {
                let status = if running.is_stopped() {
                    S::Stopped
                } else {
                    S::Running
                };
                return take_over(action, running, status).await;
            }
            Err(StepError::Failed { detail, .. }) => return action.refuse(detail).await,
            Err(StepError::Interrupted) if core.stop.is_cancelled() => return Ending::Kept,
            // Whoever interrupted it says what becomes of the revision.
            Err(StepError::Interrupted) => return action.finish(|_| {}).await,
            Err(StepError::EngineAway(detail)) => {
                tracing::warn!(work_id = %action.request().id, %detail, "taking up a revision waits for the container engine");
                let again = action.cancel.run_until_cancelled(comebacks.wait(core));
                if again.await == Some(false) {
                    return action.refuse(comebacks.exhausted(&detail)).await;
                }
            }
        }
    }
}

/// Whether something newer of the deployment serves here: the order was late.
fn is_replaced(action: &Action) -> bool {
    let current = action.record().and_then(|record| record.current);
    current.is_some_and(|current| current.attempt > action.attempt())
}

async fn attempt(action: &Action, work: &AdoptWork) -> Result<RunningRevision, StepError> {
    if action.cancel.is_cancelled() {
        return Err(StepError::Interrupted);
    }
    let core = &action.core;
    let deployment_id = action.request().deployment_id;
    let mine = action.attempt();
    if let Some(known) = action.running().filter(|known| known.attempt == mine) {
        return Ok(known);
    }
    let found = core
        .runtime
        .list(Some(deployment_id))
        .await
        .map_err(RuntimeError::while_starting)?;
    let found: Vec<ContainerFacts> = found
        .into_iter()
        .filter(|container| container.attempt == mine)
        .collect();
    let mut services = Vec::new();
    for spec in &work.spec.services {
        if action.cancel.is_cancelled() {
            return Err(StepError::Interrupted);
        }
        let labelled = found.iter().find(|found| found.service == spec.name);
        services.push(service(action, work, spec, labelled).await?);
    }
    let running = RunningRevision {
        revision_id: action.request().revision_id,
        attempt: mine,
        commit: work.commit.clone(),
        image_digest: work.image_digest.clone(),
        content_hash: work.content_hash.clone(),
        spec: work.spec.clone(),
        ports: work.ports.clone(),
        services,
        since: shared::clock::now(),
        given: work.given,
    };
    core.routes
        .set(&*core.runtime, deployment_id, routes::of(&running))
        .await
        .map_err(RuntimeError::while_switching)?;
    Ok(running)
}

/// One service as it should be: its container found or made again, and running unless the revision
/// was stopped on request.
async fn service(
    action: &Action,
    work: &AdoptWork,
    spec: &ServiceSpec,
    labelled: Option<&ContainerFacts>,
) -> Result<RunningService, StepError> {
    let core = &action.core;
    let state = match labelled {
        Some(container) => core
            .runtime
            .inspect(&container.id)
            .await
            .map_err(RuntimeError::while_starting)?
            .map(|state| (container.id.clone(), state)),
        None => None,
    };
    let (mut service, runs) = match state {
        Some((id, state)) => (known(spec, id, &state), state.running),
        None => (made_again(action, work, spec).await?, false),
    };
    service.stopped = work.stopped;
    if work.stopped && runs {
        core.runtime
            .stop(&service.container, core.settings.stop_grace)
            .await
            .map_err(RuntimeError::while_starting)?;
    } else if !work.stopped && !runs {
        // What was stopped does not run from one moment to the next; twice says no more than once.
        action.report(S::Starting, StepReport::default()).await?;
        core.runtime
            .start(&service.container)
            .await
            .map_err(RuntimeError::while_starting)?;
    }
    Ok(service)
}

fn known(spec: &ServiceSpec, container: String, state: &ContainerState) -> RunningService {
    RunningService {
        name: spec.name.clone(),
        container,
        image: state.image.clone(),
        address: state.address,
        stopped: false,
    }
}

/// The container of a service in the place of one that is gone, from the image that it was made of.
async fn made_again(
    action: &Action,
    work: &AdoptWork,
    spec: &ServiceSpec,
) -> Result<RunningService, StepError> {
    let runtime = &*action.core.runtime;
    let name = match &spec.image {
        ImageSpec::Pull { image } => image.to_string(),
        ImageSpec::Build(_) => {
            crate::docker::image_tag(action.request().deployment_id, &work.content_hash)
        }
    };
    let image = runtime
        .image(&name)
        .await
        .map_err(RuntimeError::while_starting)?
        .ok_or_else(|| {
            let detail = format!(
                "the container of service {} is gone from this node, and so is its image {name}",
                spec.name
            );
            StepError::failed(FailureReason::StartFailed, detail)
        })?;
    let published = containers::published(runtime, &spec.name, &work.ports);
    let created = runtime
        .create(ContainerJob {
            deployment_id: action.request().deployment_id,
            deployment_name: &action.request().deployment_name,
            attempt: action.attempt(),
            store: Some(action.request().store),
            service: spec,
            image: &image.id,
            address: None,
            published: &published,
        })
        .await?;
    Ok(RunningService {
        name: spec.name.clone(),
        container: created.id,
        image: image.id,
        address: created.address,
        stopped: false,
    })
}
