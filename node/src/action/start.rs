//! Starting the stopped services of a revision, or all of them again, and verifying them.

use super::comeback::Comebacks;
use super::health::question;
use super::stop::is_selected;
use super::{Action, Ending, containers, routes, running_facts, service_facts, verify};
use crate::journal::{DeploymentRecord, RunningRevision, RunningService, StepReport};
use crate::runtime::{RuntimeError, StepError};
use shared::message::{ReportFacts, ServiceSelection};
use shared::name::ServiceName;
use shared::status::{ApplicationStatus as S, FailureReason};
use std::collections::{BTreeMap, BTreeSet};

/// Whether what runs is stopped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What runs is left alone.
    Start,
    /// What runs is stopped first.
    Restart,
}

/// How often the engine had started again what runs already.
type Ran = BTreeMap<String, u32>;

/// Does it. Starting what runs is fine.
pub(super) async fn run(action: &Action, selection: &ServiceSelection, kind: Kind) -> Ending {
    // It came to its end since this was asked for, in an earlier start for instance: nothing follows.
    let is_over = action.core.journal.read(|state| {
        let standing = state.standings.get(&action.request().revision_id)?;
        let is_mine = standing.epoch == action.request().epoch;
        standing.status.filter(|_| is_mine).map(S::is_final)
    });
    if is_over == Some(true) {
        return action.finish(|_| {}).await;
    }
    if action.running().is_none() {
        // What took its place says what became of it. Where nothing did, the record is lost: the next
        // picture finds the revision missing, and it is taken up or deployed anew.
        return action.finish(|_| {}).await;
    }
    let core = &action.core;
    let deployment_id = action.request().deployment_id;
    core.sentinels.forget(deployment_id).await;
    let mut comebacks = Comebacks::default();
    let ending = loop {
        match attempt(action, selection, kind).await {
            Ok(running) => break finish(action, running).await,
            Err(StepError::Interrupted) if core.stop.is_cancelled() => break Ending::Kept,
            // Whoever interrupted it says what became of the revision.
            Err(StepError::Interrupted) => break action.finish(|_| {}).await,
            Err(StepError::Failed { reason, detail }) => {
                break fail(action, selection, reason, detail).await;
            }
            Err(StepError::EngineAway(detail)) => {
                tracing::warn!(%deployment_id, %detail, "a start waits for the container engine");
                let again = action.cancel.run_until_cancelled(comebacks.wait(core));
                if again.await == Some(false) {
                    let detail = comebacks.exhausted(&detail);
                    break fail(action, selection, FailureReason::StartFailed, detail).await;
                }
            }
        }
    };
    core.sentinels.follow(core, deployment_id);
    ending
}

async fn attempt(
    action: &Action,
    selection: &ServiceSelection,
    kind: Kind,
) -> Result<RunningRevision, StepError> {
    if action.cancel.is_cancelled() {
        return Err(StepError::Interrupted);
    }
    let (record, running) = action.record().zip(action.running()).ok_or_else(|| {
        let detail = "this node has no record of the revision: redeploy the deployment";
        StepError::failed(FailureReason::StartFailed, detail)
    })?;
    let meant: BTreeSet<ServiceName> = running
        .services
        .iter()
        .map(|service| service.name.clone())
        .filter(|name| is_selected(selection, name))
        .collect();
    action.report(S::Starting, StepReport::default()).await?;
    let events: Vec<_> = running
        .services
        .iter()
        .map(|_| action.core.events.subscribe())
        .collect();
    let mut started = running.clone();
    let mut ran = Ran::new();
    for index in 0..started.services.len() {
        let service = &started.services[index];
        if !meant.contains(&service.name) {
            continue;
        }
        let known = service.container.clone();
        started.services[index] = ready(action, &record, service, kind, &mut ran).await?;
        if started.services[index].container != known {
            // Before it runs: whatever goes wrong from here on, it is known which one to stop.
            remember(action, &started).await?;
        }
        action
            .core
            .runtime
            .start(&started.services[index].container)
            .await
            .map_err(RuntimeError::while_starting)?;
    }
    remember(action, &started).await?;
    action.report(S::Verifying, StepReport::default()).await?;
    let mut subjects = Vec::new();
    for ((spec, service), events) in started
        .spec
        .services
        .iter()
        .zip(&started.services)
        .zip(events)
    {
        if meant.contains(&service.name) {
            let image = action
                .core
                .runtime
                .image(&service.image)
                .await
                .map_err(RuntimeError::while_starting)?;
            let has_health_check = image.is_some_and(|image| image.has_health_check);
            let question = question(spec, has_health_check, service.address, &started.ports);
            let restarts = ran.get(&service.container).copied().unwrap_or(0);
            subjects.push(verify::Subject {
                spec,
                service,
                question,
                restarts,
                events,
            });
        }
    }
    verify::all(&action.core, subjects, &action.log, &action.cancel).await?;
    let deployment_id = action.request().deployment_id;
    action
        .core
        .routes
        .set(&*action.core.runtime, deployment_id, routes::of(&started))
        .await
        .map_err(RuntimeError::while_switching)?;
    Ok(started)
}

/// A service as it is to be started: stopped where it is started again, its container made anew where
/// that is gone.
async fn ready(
    action: &Action,
    record: &DeploymentRecord,
    service: &RunningService,
    kind: Kind,
    ran: &mut Ran,
) -> Result<RunningService, StepError> {
    let core = &action.core;
    let mut started = RunningService {
        stopped: false,
        ..service.clone()
    };
    let state = core
        .runtime
        .inspect(&service.container)
        .await
        .map_err(RuntimeError::while_starting)?;
    if state.is_none() {
        let created = containers::recreate(core, record, service).await?;
        started.container = created.id;
        started.address = created.address;
    } else if kind == Kind::Restart {
        core.runtime
            .stop(&service.container, core.settings.stop_grace)
            .await
            .map_err(RuntimeError::while_starting)?;
    } else if let Some(state) = state.filter(|state| state.running) {
        // What runs is left alone, and keeps its count.
        ran.insert(service.container.clone(), state.restarts);
    }
    Ok(started)
}

async fn remember(action: &Action, running: &RunningRevision) -> Result<(), StepError> {
    let services = running.services.clone();
    let edit = |draft: &mut crate::journal::Draft<'_>| {
        draft.deployment_edit(action.request().deployment_id, |record| {
            if let Some(current) = &mut record.current {
                current.services = services;
            }
        });
    };
    Ok(action.core.journal.change(edit).await?)
}

async fn finish(action: &Action, running: RunningRevision) -> Ending {
    let step = StepReport {
        facts: running_facts(&running),
        ..StepReport::default()
    };
    action.finish_with(S::Running, step).await
}

/// What does not come up is stopped, so that it does not go on failing unseen; it is kept, to be
/// looked at, until the deployment is deployed again or destroyed.
pub(super) async fn fail(
    action: &Action,
    selection: &ServiceSelection,
    reason: FailureReason,
    detail: String,
) -> Ending {
    let core = &action.core;
    let mut facts = ReportFacts::default();
    if let Some(mut running) = action.running() {
        for service in running
            .services
            .iter_mut()
            .filter(|service| is_selected(selection, &service.name))
        {
            service.stopped = true;
            if let Err(error) = core
                .runtime
                .stop(&service.container, core.settings.stop_grace)
                .await
            {
                tracing::warn!(service = %service.name, %error, "a service that failed could not be stopped");
            }
        }
        let deployment_id = action.request().deployment_id;
        if let Err(error) = core
            .routes
            .set(&*core.runtime, deployment_id, routes::of(&running))
            .await
        {
            tracing::warn!(%deployment_id, %error, "the ports could not be closed yet; this is tried again");
        }
        if remember(action, &running).await.is_err() {
            return Ending::Kept;
        }
        facts.services = Some(service_facts(&running, S::Running, |_| 0));
    }
    action
        .finish_with(
            S::Failed,
            StepReport {
                failure_reason: Some(reason),
                detail: Some(detail),
                facts,
            },
        )
        .await
}
