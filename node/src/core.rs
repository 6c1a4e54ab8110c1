//! What every part of a node shares.

use crate::action::routes::Routes;
use crate::assignments::Pictures;
use crate::config::NodeSettings;
use crate::journal::{Draft, Journal, JournalError, StepReport};
use crate::runtime::{EngineEvent, Runtime, StepError};
use crate::state_dir::StateDir;
use crate::text::cut_front;
use crate::watch::Sentinels;
use shared::id::{DeploymentId, RevisionId};
use shared::message::{TelemetryItem, WorkRequest};
use shared::status::ApplicationStatus;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest detail of a report in bytes.
pub(crate) const DETAIL_LIMIT: usize = 16 * 1024;

/// Whether the container engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineState {
    /// It was not asked yet.
    Unknown,
    /// It answers.
    Up {
        /// Its version.
        version: String,
    },
    /// It does not.
    Down {
        /// Why.
        reason: String,
    },
}

impl EngineState {
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) deployment_id: DeploymentId,
    pub(crate) revision_id: RevisionId,
    pub(crate) epoch: i32,
}

impl From<&WorkRequest> for Subject {
    fn from(request: &WorkRequest) -> Self {
        Self {
            deployment_id: request.deployment_id,
            revision_id: request.revision_id,
            epoch: request.epoch,
        }
    }
}

/// What every part of a node shares.
pub(crate) struct Core {
    pub(crate) settings: NodeSettings,
    pub(crate) state_dir: StateDir,
    pub(crate) journal: Journal,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The way out for log lines.
    pub(crate) telemetry: mpsc::Sender<TelemetryItem>,
    /// What happens to containers.
    pub(crate) events: broadcast::Sender<EngineEvent>,
    pub(crate) engine: watch::Receiver<EngineState>,
    /// Where leased ports lead.
    pub(crate) routes: Routes,
    /// Who watches what runs.
    pub(crate) sentinels: Sentinels,
    /// What the orchestrator said last that this node should have.
    pub(crate) pictures: Pictures,
    /// Deployment actions that may still begin.
    pub(crate) slots: Arc<Semaphore>,
    /// Told when a heartbeat is due early.
    pub(crate) changed: Notify,
    /// Everything that was spawned.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the node is told to stop.
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// Reports where a revision stands; returns once that is in the journal.
    pub(crate) async fn report(
        &self,
        subject: Subject,
        status: ApplicationStatus,
        step: StepReport,
    ) -> Result<(), StepError> {
        self.report_with(subject, status, step, |_| {}).await
    }

    /// Reports where a revision stands, together with what `change` adds to the journal.
    pub(crate) async fn report_with(
        &self,
        subject: Subject,
        status: ApplicationStatus,
        step: StepReport,
        change: impl FnOnce(&mut Draft<'_>),
    ) -> Result<(), StepError> {
        let Subject {
            deployment_id,
            revision_id,
            epoch,
        } = subject;
        let step = StepReport {
            detail: step.detail.map(|detail| cut_front(&detail, DETAIL_LIMIT)),
            ..step
        };
        let node = &self.settings.name;
        let reported = self
            .journal
            .change(|draft| {
                change(draft);
                draft.report(node, deployment_id, revision_id, epoch, status, step)
            })
            .await?;
        if reported {
            tracing::info!(%deployment_id, %revision_id, epoch, %status, "a revision stands somewhere else");
        }
        Ok(())
    }

    /// Waits until the container engine answers.
    pub(crate) async fn engine_is_up(&self) {
        // The sender lives as long as the node; should it be gone, the node is stopping.
        let _ = self.engine.clone().wait_for(EngineState::is_up).await;
    }
}

impl From<JournalError> for StepError {
    /// A journal that takes nothing more belongs to a process that is ending.
    fn from(_: JournalError) -> Self {
        Self::Interrupted
    }
}
