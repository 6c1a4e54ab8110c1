//! What a node does for a work request: one file a kind, and one a step of the deployment action.
//!
//! Every action is safe to begin again from its start: it is, after the process was killed. It
//! looks at what is there, makes it so, and tells the end and the report of it in one change of the
//! journal.

mod adopt;
mod cancel;
mod comeback;
mod containers;
mod deploy;
mod destroy;
mod evict;
pub(crate) mod health;
mod images;
mod ports;
mod retire;
pub(crate) mod routes;
mod source;
mod start;
mod stop;
mod verify;

pub(crate) use containers::recreate;
pub(crate) use evict::{evict, leave, remove_strays};
pub(crate) use retire::{disown, retire};
pub(crate) use stop::stop_again;

use crate::core::Core;
use crate::journal::{Attempt, DeploymentRecord, RunningRevision, StepReport, WorkEntry};
use crate::log_sink::LogSink;
use crate::runtime::StepError;
use shared::message::{LOG_TRY, LogSubject, ReportFacts, ServiceFacts, WorkAction, WorkRequest};
use shared::status::{ApplicationStatus, FailureReason};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// One action under way.
pub(crate) struct Action {
    pub(crate) core: Arc<Core>,
    pub(crate) entry: WorkEntry,
    pub(crate) log: LogSink,
    /// Interrupts it.
    pub(crate) cancel: CancellationToken,
    /// The image that it builds, or had built before, once its name is known.
    image: OnceLock<String>,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its end is in the journal.
    Finished,
    /// It stays in the journal and is begun again by the next process.
    Kept,
}

impl Action {
    pub(crate) fn new(
        core: Arc<Core>,
        entry: WorkEntry,
        tries: u32,
        cancel: CancellationToken,
    ) -> Self {
        let log = match entry.request.action {
            WorkAction::Deploy(_) => {
                let subject = LogSubject::Build {
                    revision_id: entry.request.revision_id,
                    epoch: entry.request.epoch,
                };
                LogSink::new(subject, i64::from(tries) * LOG_TRY, core.telemetry.clone())
            }
            // The build log ended with the deployment action.
            _ => LogSink::nowhere(),
        };
        Self {
            core,
            entry,
            log,
            cancel,
            image: OnceLock::new(),
        }
    }

    /// Does it.
    pub(crate) async fn run(&self) -> Ending {
        match &self.entry.request.action {
            WorkAction::Deploy(work) => deploy::run(self, work).await,
            WorkAction::Stop(selection) => self.until_done(|| stop::run(self, selection)).await,
            WorkAction::Start(selection) => start::run(self, selection, start::Kind::Start).await,
            WorkAction::Restart(selection) => {
                start::run(self, selection, start::Kind::Restart).await
            }
            WorkAction::Destroy { volumes } => {
                self.until_done(|| destroy::run(self, *volumes)).await
            }
            WorkAction::Cancel => self.until_done(|| cancel::run(self)).await,
            WorkAction::Adopt(work) => adopt::run(self, work).await,
            // Never journalled, so never here: nothing to do but to let it go.
            WorkAction::FollowLogs { .. } | WorkAction::UnfollowLogs { .. } => {
                self.finish(|_| {}).await
            }
        }
    }

    pub(crate) const fn request(&self) -> &WorkRequest {
        &self.entry.request
    }

    pub(crate) const fn attempt(&self) -> Attempt {
        Attempt {
            revision: self.entry.request.revision,
            epoch: self.entry.request.epoch,
        }
    }

    /// What the journal has of the deployment.
    pub(crate) fn record(&self) -> Option<DeploymentRecord> {
        self.core.journal.read(|state| {
            state
                .deployments
                .get(&self.request().deployment_id)
                .cloned()
        })
    }

    /// As [`Self::record`] while the journal is being changed; a new one where there is none.
    fn record_in(&self, draft: &crate::journal::Draft<'_>) -> DeploymentRecord {
        let WorkRequest {
            deployment_id,
            deployment_name,
            ..
        } = self.request();
        let known = draft.state().deployments.get(deployment_id).cloned();
        known.unwrap_or_else(|| DeploymentRecord::new(*deployment_id, deployment_name.clone()))
    }

    /// The revision of the request, when it is the one that this node runs.
    pub(crate) fn running(&self) -> Option<RunningRevision> {
        self.record()?
            .current
            .filter(|running| running.revision_id == self.request().revision_id)
    }

    async fn report(&self, status: ApplicationStatus, step: StepReport) -> Result<(), StepError> {
        self.core.report(self.request().into(), status, step).await
    }

    /// Writes the end of the action, together with what `change` adds to it.
    async fn finish(&self, change: impl FnOnce(&mut crate::journal::Draft<'_>)) -> Ending {
        let node = &self.core.settings.name;
        let written = self
            .core
            .journal
            .change(|draft| {
                change(draft);
                draft.finish(node, &self.entry);
            })
            .await;
        self.core.changed.notify_one();
        match written {
            Ok(()) => Ending::Finished,
            // The process is ending and nothing was written: the next one begins it again.
            Err(_) => Ending::Kept,
        }
    }

    /// Writes that the action cannot be done after all.
    async fn refuse(&self, reason: String) -> Ending {
        let reason = crate::text::cut_front(&reason, crate::core::DETAIL_LIMIT);
        tracing::warn!(work_id = %self.request().id, %reason, "accepted work is refused");
        let node = &self.core.settings.name;
        let written = self
            .core
            .journal
            .change(|draft| draft.refuse(node, &self.entry, reason))
            .await;
        match written {
            Ok(()) => Ending::Finished,
            Err(_) => Ending::Kept,
        }
    }

    /// Reports where the revision stands, together with the end of the action.
    async fn finish_with(&self, status: ApplicationStatus, step: StepReport) -> Ending {
        let WorkRequest {
            deployment_id,
            revision_id,
            epoch,
            ..
        } = *self.request();
        let step = StepReport {
            detail: step
                .detail
                .map(|detail| crate::text::cut_front(&detail, crate::core::DETAIL_LIMIT)),
            ..step
        };
        let node = &self.core.settings.name;
        tracing::info!(%deployment_id, %revision_id, epoch, %status, "an action came to its end");
        self.finish(|draft| {
            draft.report(node, deployment_id, revision_id, epoch, status, step);
        })
        .await
    }

    /// Does something that cannot fail for good, again and again until it is done: what keeps it
    /// from it is an engine that does not answer.
    async fn until_done<F: Future<Output = Result<Ending, StepError>>>(
        &self,
        step: impl Fn() -> F,
    ) -> Ending {
        let mut pause = crate::backoff::Backoff::default();
        loop {
            match step().await {
                Ok(ending) => return ending,
                Err(StepError::Interrupted) => return Ending::Kept,
                Err(error) => {
                    tracing::warn!(work_id = %self.request().id, %error, "an action waits and tries again");
                    self.core.changed.notify_one();
                }
            }
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ending::Kept,
                () = pause.wait() => {}
            }
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ending::Kept,
                () = self.core.engine_is_up() => {}
            }
        }
    }
}

/// Ends work whose action panicked again and again. What brings a revision up fails and is cleaned
/// up after; what takes something down is kept, for it has no other end than to be done.
pub(crate) async fn give_up(
    core: Arc<Core>,
    entry: WorkEntry,
    cancel: CancellationToken,
    panics: u32,
) -> Ending {
    let detail = format!(
        "internal error: the node's action ended {panics} times in a way that it never should; the node's own log says where"
    );
    let action = Action::new(
        core,
        entry.clone(),
        entry.attempts.saturating_add(panics),
        cancel,
    );
    match &entry.request.action {
        WorkAction::Deploy(_) => deploy::give_up(&action, detail).await,
        WorkAction::Adopt(_) => action.refuse(detail).await,
        WorkAction::Start(selection) | WorkAction::Restart(selection) => {
            let ending = start::fail(&action, selection, FailureReason::StartFailed, detail).await;
            action
                .core
                .sentinels
                .follow(&action.core, entry.request.deployment_id);
            ending
        }
        WorkAction::Stop(_)
        | WorkAction::Destroy { .. }
        | WorkAction::Cancel
        | WorkAction::FollowLogs { .. }
        | WorkAction::UnfollowLogs { .. } => Ending::Kept,
    }
}

/// What is known of a revision's services, each standing as `status` unless it is stopped.
pub(crate) fn service_facts(
    running: &RunningRevision,
    status: ApplicationStatus,
    restarts: impl Fn(&str) -> u32,
) -> Vec<ServiceFacts> {
    let facts = |service: &crate::journal::RunningService| ServiceFacts {
        name: service.name.clone(),
        status: if service.stopped {
            ApplicationStatus::Stopped
        } else {
            status
        },
        image: service.image.clone(),
        container: Some(service.container.clone()),
        restarts: restarts(&service.container),
    };
    running.services.iter().map(facts).collect()
}

/// Everything that is known of a revision that serves.
pub(crate) fn running_facts(running: &RunningRevision) -> ReportFacts {
    ReportFacts {
        commit: running.commit.clone(),
        image_digest: running.image_digest.clone(),
        content_hash: Some(running.content_hash.clone()),
        spec: Some(Box::new(running.spec.clone())),
        ports: Some(running.ports.clone()),
        services: Some(service_facts(running, ApplicationStatus::Running, |_| 0)),
    }
}
