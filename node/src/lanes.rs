//! The order of work: one action at a time a deployment, in the order of arrival.
//!
//! Every deployment with work has a lane, a task that takes its work one by one. Some work does not
//! wait but interrupts what is under way: a cancel or a newer attempt interrupts the deployment
//! action of its revision, a destroy whatever is done to its deployment.

use crate::action::{Action, Ending};
use crate::core::Core;
use crate::journal::{Attempt, State, WorkEntry};
use shared::id::DeploymentId;
use shared::message::{WorkAction, WorkRequest};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// The lanes of a node.
#[derive(Clone, Default)]
pub(crate) struct Lanes {
    lanes: Arc<Mutex<HashMap<DeploymentId, Lane>>>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<WorkEntry>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    request: WorkRequest,
    cancel: CancellationToken,
}

impl Lanes {
    /// Gives journalled work to its deployment's lane.
    pub(crate) fn push(&self, core: &Arc<Core>, entry: WorkEntry) {
        let deployment_id = entry.request.deployment_id;
        let mut lanes = self.lock();
        let is_new = !lanes.contains_key(&deployment_id);
        let lane = lanes.entry(deployment_id).or_default();
        if let Some(under_way) = &lane.under_way
            && interrupts(&entry.request, &under_way.request)
        {
            under_way.cancel.cancel();
        }
        lane.waiting.push_back(entry);
        if is_new {
            core.tasks
                .spawn(self.clone().drive(core.clone(), deployment_id));
        }
    }

    async fn drive(self, core: Arc<Core>, deployment_id: DeploymentId) {
        while let Some((entry, cancel)) = self.next(&core, deployment_id) {
            let work_id = entry.request.id;
            let one = core
                .tasks
                .spawn(Box::pin(perform(core.clone(), entry, cancel)));
            if let Err(error) = one.await {
                // It stays in the journal; the next process begins it again.
                tracing::error!(%work_id, %deployment_id, %error, "an action ended in a way that it never should");
            }
        }
    }

    /// The lane's next work; none, and no lane any more, when there is none.
    fn next(
        &self,
        core: &Core,
        deployment_id: DeploymentId,
    ) -> Option<(WorkEntry, CancellationToken)> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(&deployment_id)?;
        lane.under_way = None;
        let next = if core.stop.is_cancelled() {
            None
        } else {
            lane.waiting.pop_front()
        };
        let Some(entry) = next else {
            lanes.remove(&deployment_id);
            return None;
        };
        let cancel = core.stop.child_token();
        lane.under_way = Some(UnderWay {
            request: entry.request.clone(),
            cancel: cancel.clone(),
        });
        Some((entry, cancel))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn perform(core: Arc<Core>, entry: WorkEntry, cancel: CancellationToken) {
    let WorkRequest {
        id,
        deployment_id,
        revision_id,
        epoch,
        ..
    } = entry.request;
    if core.journal.read(|state| is_overtaken(state, &entry)) {
        overtaken(core, entry).await;
        return;
    }
    let arrival = entry.arrival;
    let Ok(tries) = core.journal.change(|draft| draft.begin(arrival)).await else {
        return;
    };
    tracing::info!(work_id = %id, %deployment_id, %revision_id, epoch, kind = kind(&entry.request.action), tries, "work begins");
    let entry = WorkEntry {
        attempts: tries,
        ..entry
    };
    let ending = Action::new(core.clone(), entry, tries, cancel).run().await;
    let how = match ending {
        Ending::Finished => "work is done",
        Ending::Kept => "work is kept for the next start",
    };
    tracing::info!(work_id = %id, %deployment_id, "{how}");
}

/// Work that something later has made pointless is not begun.
async fn overtaken(core: Arc<Core>, entry: WorkEntry) {
    let node = core.settings.name.clone();
    if matches!(entry.request.action, WorkAction::Deploy(_)) {
        Action::new(
            core.clone(),
            entry.clone(),
            entry.attempts,
            core.stop.child_token(),
        )
        .log
        .end()
        .await;
    }
    if let Err(error) = core
        .journal
        .change(|draft| draft.finish(&node, &entry))
        .await
    {
        tracing::debug!(work_id = %entry.request.id, %error, "it is overtaken again after the next start");
    }
}

/// Whether new work interrupts what is under way for the same deployment.
fn interrupts(new: &WorkRequest, under_way: &WorkRequest) -> bool {
    let is_deploy = matches!(under_way.action, WorkAction::Deploy(_));
    let is_begun = matches!(
        under_way.action,
        WorkAction::Deploy(_) | WorkAction::Start(_) | WorkAction::Restart(_)
    );
    let same_revision = new.revision_id == under_way.revision_id;
    match new.action {
        WorkAction::Destroy { .. } => is_begun,
        WorkAction::Cancel => is_deploy && same_revision && new.epoch >= under_way.epoch,
        WorkAction::Deploy(_) => is_begun && same_revision && new.epoch > under_way.epoch,
        _ => false,
    }
}

/// Whether later work makes this pointless.
fn is_overtaken(state: &State, entry: &WorkEntry) -> bool {
    let later = state
        .work
        .range(entry.arrival + 1..)
        .map(|(_, later)| &later.request);
    later
        .filter(|later| later.deployment_id == entry.request.deployment_id)
        .any(|later| interrupts(later, &entry.request))
}

const fn kind(action: &WorkAction) -> &'static str {
    match action {
        WorkAction::Deploy(_) => "deploy",
        WorkAction::Adopt(_) => "adopt",
        WorkAction::Stop(_) => "stop",
        WorkAction::Start(_) => "start",
        WorkAction::Restart(_) => "restart",
        WorkAction::Destroy { .. } => "destroy",
        WorkAction::Cancel => "cancel",
        WorkAction::FollowLogs { .. } => "follow logs",
        WorkAction::UnfollowLogs { .. } => "unfollow logs",
    }
}

/// The attempts whose deployment action is to be begun again.
pub(crate) fn unfinished_deploys(state: &State) -> impl Iterator<Item = (DeploymentId, Attempt)> {
    let deploys = state
        .unfinished()
        .filter(|entry| matches!(entry.request.action, WorkAction::Deploy(_)));
    deploys.map(|entry| {
        let WorkRequest {
            deployment_id,
            revision,
            epoch,
            ..
        } = entry.request;
        (deployment_id, Attempt { revision, epoch })
    })
}
