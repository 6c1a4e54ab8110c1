//! The deployment action: fetch, build, start, verify, switch.
//!
//! ```text
//! FETCHING ─▶ BUILDING ─▶ STARTING ─▶ VERIFYING ─▶ (switch) ─▶ RUNNING, the old revision retires
//!     └───────────┴───────────┴───────────┴────▶ FAILED, what was made is removed, the old one serves on
//! ```
//!
//! Before the first container is made the attempt is marked in the journal as retiring, and the
//! mark goes in the same change that makes it the current revision. So whenever the process ends,
//! the journal says what has to go.

use super::comeback::Comebacks;
use super::containers::{self, Images};
use super::health::question;
use super::source::{self, build, fetch, source_facts};
use super::{Action, Ending, images, ports, retire, routes, running_facts, verify};
use crate::journal::{
    Attempt, DeploymentRecord, Draft, RunningRevision, RunningService, StepReport,
};
use crate::runtime::{EngineEvent, Resolved, RuntimeError, StepError};
use shared::message::{DeployWork, LeasedPort, ReportFacts};
use shared::status::{ApplicationStatus as S, FailureReason, Method};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long the removal of a candidate may take when the node is stopping; what is left then is
/// removed by the next process.
const CLEAN_BEFORE_STOP: Duration = Duration::from_secs(3);

/// Does it, again when the engine went away in the middle.
pub(super) async fn run(action: &Action, work: &DeployWork) -> Ending {
    let ending = until_ended(action, work).await;
    if ending == Ending::Finished {
        action.log.end().await;
    }
    ending
}

async fn until_ended(action: &Action, work: &DeployWork) -> Ending {
    let mut comebacks = Comebacks::default();
    loop {
        let outcome = match slot(action).await {
            Ok(_slot) => attempt(action, work).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(running) => {
                action.log.system("running");
                return take_over(action, running, S::Running).await;
            }
            Err(StepError::Failed { reason, detail }) => return fail(action, reason, detail).await,
            Err(StepError::Interrupted) => return interrupted(action).await,
            Err(StepError::EngineAway(detail)) => {
                action.log.system(format!(
                    "{detail}; this begins again once the container engine answers"
                ));
                let again = action
                    .cancel
                    .run_until_cancelled(comebacks.wait(&action.core));
                match again.await {
                    Some(true) => {}
                    Some(false) => {
                        let reason = reason_by_step(action);
                        return fail(action, reason, comebacks.exhausted(&detail)).await;
                    }
                    None => return interrupted(action).await,
                }
            }
        }
    }
}

/// Waits for a slot: so many deployment actions work at once, on the whole node.
async fn slot(action: &Action) -> Result<tokio::sync::OwnedSemaphorePermit, StepError> {
    let slot = action
        .cancel
        .run_until_cancelled(action.core.slots.clone().acquire_owned())
        .await;
    let slot = slot.and_then(Result::ok).ok_or(StepError::Interrupted)?;
    action.core.changed.notify_one();
    Ok(slot)
}

/// The whole way up to the switch, from the start.
async fn attempt(action: &Action, work: &DeployWork) -> Result<RunningRevision, StepError> {
    remove_leftovers(action).await?;
    // Each step is said first and begun while that is being written.
    let (said, tree) = tokio::join!(
        action.report(S::Fetching, StepReport::default()),
        fetch(action, work)
    );
    said?;
    let tree = tree?;
    let mut resolved = tree.resolved().clone();
    if work.method.is_some_and(|method| method != Method::Rolling) {
        action
            .log
            .system("only the method rolling is available in this release; it is used");
    }
    resolved.spec.method = Method::Rolling;
    let building = StepReport {
        facts: source_facts(&resolved),
        ..StepReport::default()
    };
    // Noted while it is built: whatever interrupts that, the image is known to the journal.
    let image = source::built_image(action, &resolved);
    let note = |draft: &mut Draft<'_>| images::note(draft, action, image);
    // The network of a first deployment is made while its image is. All are waited for: the engine
    // goes on making a network whose caller is gone, also after everything was removed.
    let (said, built, prepared) = tokio::join!(
        action
            .core
            .report_with(action.request().into(), S::Building, building, note),
        build(action, tree, &resolved),
        action.core.runtime.prepare(action.request().deployment_id)
    );
    said?;
    if let Err(error) = prepared {
        tracing::debug!(%error, "the network is made with the first container");
    }
    let images = built?;
    // Before the first container is made, the journal knows of the attempt.
    let begin = |draft: &mut Draft<'_>| begin(draft, action);
    action
        .core
        .report_with(
            action.request().into(),
            S::Starting,
            StepReport::default(),
            begin,
        )
        .await?;
    start(action, work, &resolved, &images).await
}

/// Removes what an earlier try of this revision left, which was never current.
async fn remove_leftovers(action: &Action) -> Result<(), StepError> {
    let Attempt { revision, epoch } = action.attempt();
    let is_meant = move |found: Attempt| found.revision == revision && found.epoch <= epoch;
    let is_marked = action
        .record()
        .is_some_and(|record| record.retiring.iter().copied().any(is_meant));
    if action.entry.attempts == 0 && epoch == 1 && !is_marked {
        return Ok(());
    }
    remove_candidate(action, is_meant).await
}

async fn remove_candidate(
    action: &Action,
    is_meant: impl Fn(Attempt) -> bool + Send,
) -> Result<(), StepError> {
    let current = action
        .record()
        .and_then(|record| record.current)
        .map(|running| running.attempt);
    let is_meant = move |found: Attempt| is_meant(found) && Some(found) != current;
    retire::remove_containers(
        &action.core,
        action.request().deployment_id,
        is_meant,
        Duration::ZERO,
    )
    .await
    .map_err(RuntimeError::while_starting)
}

/// Starts and verifies the candidate beside whatever serves, then switches to it.
async fn start(
    action: &Action,
    work: &DeployWork,
    resolved: &Resolved,
    images: &Images,
) -> Result<RunningRevision, StepError> {
    let Started {
        ports,
        services,
        events,
    } = start_containers(action, work, resolved, images).await?;
    shared::fail_point!("node::action::before_verify");
    let subjects = resolved.spec.services.iter().zip(&services).zip(events);
    let subjects = subjects.map(|((spec, service), events)| {
        let has_health_check = images
            .get(&spec.name)
            .is_some_and(|image| image.has_health_check);
        let question = question(spec, has_health_check, service.address, &ports);
        verify::Subject {
            spec,
            service,
            question,
            restarts: 0,
            events,
        }
    });
    let (said, verified) = tokio::join!(
        action.report(S::Verifying, StepReport::default()),
        verify::all(
            &action.core,
            subjects.collect(),
            &action.log,
            &action.cancel,
        )
    );
    said?;
    verified?;
    let running = RunningRevision {
        revision_id: action.request().revision_id,
        attempt: action.attempt(),
        commit: resolved.commit.clone(),
        image_digest: resolved.image_digest.clone(),
        content_hash: resolved.content_hash.clone(),
        spec: resolved.spec.clone(),
        ports,
        services,
        since: shared::clock::now(),
        given: work.given,
    };
    switch(action, &running).await?;
    Ok(running)
}

/// Containers that were just started.
struct Started {
    ports: Vec<LeasedPort>,
    services: Vec<RunningService>,
    /// What happened to containers since before they were started, for each of them.
    events: Vec<broadcast::Receiver<EngineEvent>>,
}

/// Starts the candidate's containers; once more with other ports, when only the engine knew that
/// one is taken.
async fn start_containers(
    action: &Action,
    work: &DeployWork,
    resolved: &Resolved,
    images: &Images,
) -> Result<Started, StepError> {
    let mut taken = Vec::new();
    loop {
        let ports = ports::choose(action, &resolved.spec, &work.ports, &taken).await?;
        // Before the start, so that no death is missed.
        let events = resolved
            .spec
            .services
            .iter()
            .map(|_| action.core.events.subscribe())
            .collect();
        match containers::start_all(action, &resolved.spec, images, &ports).await {
            Ok(services) => {
                return Ok(Started {
                    ports,
                    services,
                    events,
                });
            }
            Err(StepError::Failed {
                reason: FailureReason::PortUnavailable,
                detail,
            }) if !ports.is_empty() => {
                action.log.system(format!("{detail}; trying other ports"));
                let mine = action.attempt();
                remove_candidate(action, move |found| found == mine).await?;
                taken.extend(ports.iter().map(|lease| lease.port));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Notes an attempt as one that retires unless it is taken over.
fn begin(draft: &mut Draft<'_>, action: &Action) {
    let attempt = action.attempt();
    let mut record = action.record_in(draft);
    if !record.retiring.contains(&attempt) {
        record.retiring.push(attempt);
    }
    draft.deployment_put(record);
}

/// New connections go to the candidate from here on.
async fn switch(action: &Action, running: &RunningRevision) -> Result<(), StepError> {
    if action.cancel.is_cancelled() {
        return Err(StepError::Interrupted);
    }
    shared::fail_point!("node::switch::before_routes");
    let deployment_id = action.request().deployment_id;
    // What is watched now is about to be replaced: its end is no crash.
    action.core.sentinels.forget(deployment_id).await;
    let table = routes::of(running);
    action
        .core
        .routes
        .set(&*action.core.runtime, deployment_id, table)
        .await
        .map_err(RuntimeError::while_switching)?;
    shared::fail_point!("node::switch::after_routes_before_journal");
    for lease in &running.ports {
        action.log.system(format!(
            "port {} leads to {}:{}",
            lease.port, lease.service, lease.container_port
        ));
    }
    Ok(())
}

/// A revision becomes the current one, and what was there before retires: one change.
pub(super) async fn take_over(action: &Action, running: RunningRevision, status: S) -> Ending {
    let core = &action.core;
    let deployment_id = action.request().deployment_id;
    let mine = action.attempt();
    let before = action.record().and_then(|record| record.current);
    let others = others(action, mine).await;
    let step = StepReport {
        facts: running_facts(&running),
        ..StepReport::default()
    };
    let retiring: Vec<Attempt> = others.iter().copied().collect();
    let ending = {
        let request = action.request();
        let node = &core.settings.name;
        action
            .finish(|draft| {
                let known = draft.state().deployments.get(&deployment_id).cloned();
                let name = request.deployment_name.clone();
                draft.deployment_put(DeploymentRecord {
                    name: name.clone(),
                    current: Some(running),
                    retiring,
                    ..known.unwrap_or_else(|| DeploymentRecord::new(deployment_id, name))
                });
                draft.deployment_stays(deployment_id);
                draft.revived(request.revision_id);
                draft.report(
                    node,
                    deployment_id,
                    request.revision_id,
                    request.epoch,
                    status,
                    step,
                );
            })
            .await
    };
    if ending == Ending::Finished {
        shared::fail_point!("node::action::after_running_before_report");
        tracing::info!(%deployment_id, revision = mine.revision, epoch = mine.epoch, "a revision runs");
        core.sentinels.follow(core, deployment_id);
        for attempt in others {
            let led = before
                .as_ref()
                .filter(|before| before.attempt == attempt)
                .map(routes::of)
                .unwrap_or_default();
            retire::retire(core, deployment_id, attempt, led);
        }
    }
    ending
}

/// Every other attempt of the deployment that has, or may have, containers here: also those that
/// only their labels tell of, since the orchestrator has just confirmed this one.
async fn others(action: &Action, mine: Attempt) -> BTreeSet<Attempt> {
    let record = action.record();
    let mut others: BTreeSet<Attempt> = record
        .iter()
        .flat_map(|record| record.retiring.iter().copied())
        .collect();
    others.extend(
        record
            .and_then(|record| record.current)
            .map(|running| running.attempt),
    );
    match action
        .core
        .runtime
        .list(Some(action.request().deployment_id))
        .await
    {
        Ok(found) => others.extend(found.into_iter().map(|container| container.attempt)),
        Err(error) => tracing::debug!(%error, "only the journal's revisions retire"),
    }
    others.remove(&mine);
    others
}

/// Why an attempt failed that cannot be brought to any end of its own: by the step that it had reached.
fn reason_by_step(action: &Action) -> FailureReason {
    let reached = action.core.journal.read(|state| {
        let standing = state.standings.get(&action.request().revision_id)?;
        standing.status
    });
    match reached {
        None | Some(S::Fetching) => FailureReason::FetchFailed,
        Some(S::Building) => FailureReason::BuildFailed,
        Some(_) => FailureReason::StartFailed,
    }
}

/// Ends an attempt that came to no end of its own.
pub(super) async fn give_up(action: &Action, detail: String) -> Ending {
    let ending = fail(action, reason_by_step(action), detail).await;
    action.log.end().await;
    ending
}

/// The candidate goes, what served serves on.
async fn fail(action: &Action, reason: FailureReason, detail: String) -> Ending {
    action.log.system(format!("failed: {reason}: {detail}"));
    let cleaned = clean(action).await;
    // Whoever watches the repository is not to try the same again for ever.
    let arrival = action.entry.arrival;
    let version = action.core.journal.read(|state| state.version_of(arrival));
    let step = StepReport {
        failure_reason: Some(reason),
        detail: Some(detail),
        facts: ReportFacts {
            commit: version.and_then(|(_, commit)| commit),
            ..ReportFacts::default()
        },
    };
    let ending = action.finish_with(S::Failed, step).await;
    after_cleaning(action, cleaned);
    ending
}

/// Whoever interrupted it says what became of the revision: a cancel, a destroy, a newer attempt,
/// or the next process.
async fn interrupted(action: &Action) -> Ending {
    if action.core.stop.is_cancelled() {
        action
            .log
            .system("the node is stopping; the next start begins this again");
        // Best effort: the mark in the journal stays.
        let _ = tokio::time::timeout(CLEAN_BEFORE_STOP, clean(action)).await;
        return Ending::Kept;
    }
    action.log.system("interrupted");
    let cleaned = clean(action).await;
    let ending = action.finish(|_| {}).await;
    after_cleaning(action, cleaned);
    ending
}

/// Removes the candidate's containers and leads its ports back to what serves.
async fn clean(action: &Action) -> Result<(), StepError> {
    let core = &action.core;
    let deployment_id = action.request().deployment_id;
    let current = action.record().and_then(|record| record.current);
    let table = current.as_ref().map(routes::of).unwrap_or_default();
    if let Err(error) = core.routes.set(&*core.runtime, deployment_id, table).await {
        tracing::warn!(%deployment_id, %error, "the ports could not be led back yet; this is tried again");
    }
    if current.is_some() {
        core.sentinels.follow(core, deployment_id);
    }
    let mine = action.attempt();
    remove_candidate(action, move |found| found == mine).await?;
    let image = action.image.get();
    let edit = |draft: &mut Draft<'_>| {
        draft.deployment_edit(deployment_id, |record| {
            record.retiring.retain(|other| *other != mine);
            if let Some(image) = image {
                images::demote(record, image);
            }
        });
    };
    core.journal.change(edit).await?;
    images::remove_old(core, deployment_id).await;
    if current.is_none()
        && let Err(error) = core.runtime.unprepare(deployment_id).await
    {
        // The next attempt uses it, or the end of the deployment removes it.
        tracing::debug!(%deployment_id, %error, "an unused network stays");
    }
    Ok(())
}

/// What could not be removed now is removed as soon as it can be.
fn after_cleaning(action: &Action, cleaned: Result<(), StepError>) {
    if let Err(error) = cleaned {
        tracing::warn!(work_id = %action.request().id, %error, "a candidate could not be removed yet");
        retire::retire(
            &action.core,
            action.request().deployment_id,
            action.attempt(),
            Vec::new(),
        );
    }
}
