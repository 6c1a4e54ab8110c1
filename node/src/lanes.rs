//! The order of work: one action at a time a deployment, in the order of arrival.
//!
//! Every deployment with work has a lane, a task that takes its work one by one. Some work does not
//! wait but interrupts what is under way: a cancel or a newer attempt interrupts the deployment
//! action of its revision, a destroy whatever is done to its deployment. What a picture of the
//! orchestrator asks for goes before everything that waits, and interrupts what the picture knows
//! not to be meant for this node any more.

use crate::action::{self, Action, Ending};
use crate::backoff::Backoff;
use crate::core::Core;
use crate::journal::{Attempt, State, WorkEntry};
use futures::future::BoxFuture;
use shared::id::DeploymentId;
use shared::id::WorkId;
use shared::message::{WorkAction, WorkRequest};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The lanes of a node.
#[derive(Clone, Default)]
pub(crate) struct Lanes {
    lanes: Arc<Mutex<HashMap<DeploymentId, Lane>>>,
}

/// How often an action that ended in a panic is begun again before it is given up.
const PANICS_BORNE: u32 = 3;

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Turn>,
    under_way: Option<UnderWay>,
}

/// What a lane takes one after the other.
enum Turn {
    /// Journalled work.
    Work(Box<WorkEntry>),
    /// Something else that must not happen beside work for the same deployment.
    Between(Between),
}

struct Between {
    job: BoxFuture<'static, bool>,
    done: oneshot::Sender<bool>,
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
        lane.waiting.push_back(Turn::Work(Box::new(entry)));
        if is_new {
            core.tasks
                .spawn(self.clone().drive(core.clone(), deployment_id));
        }
    }

    /// Does `job` before any other work of a deployment, once what is under way has ended; that is
    /// interrupted when it is one of `interrupted`. Says what the job said; a dropped sender means
    /// that the node stops.
    pub(crate) fn before_all(
        &self,
        core: &Arc<Core>,
        deployment_id: DeploymentId,
        interrupted: &BTreeSet<WorkId>,
        job: BoxFuture<'static, bool>,
    ) -> oneshot::Receiver<bool> {
        let (done, is_done) = oneshot::channel();
        let mut lanes = self.lock();
        let is_new = !lanes.contains_key(&deployment_id);
        let lane = lanes.entry(deployment_id).or_default();
        if let Some(under_way) = &lane.under_way
            && interrupted.contains(&under_way.request.id)
        {
            under_way.cancel.cancel();
        }
        lane.waiting
            .push_front(Turn::Between(Between { job, done }));
        if is_new {
            core.tasks
                .spawn(self.clone().drive(core.clone(), deployment_id));
        }
        is_done
    }

    /// Whether something is done, or waits to be done, to a deployment.
    pub(crate) fn is_busy(&self, deployment_id: DeploymentId) -> bool {
        self.lock().contains_key(&deployment_id)
    }

    async fn drive(self, core: Arc<Core>, deployment_id: DeploymentId) {
        while let Some((turn, cancel)) = self.next(&core, deployment_id) {
            match turn {
                Turn::Work(entry) => until_it_ends(&core, *entry, &cancel).await,
                Turn::Between(Between { job, done }) => {
                    let job = core.tasks.spawn(job);
                    let outcome = job.await.unwrap_or_else(|error| {
                        tracing::error!(%deployment_id, %error, "a deployment could not be made as it should be; the next picture tries again");
                        false
                    });
                    // Whoever asked may have been told something newer meanwhile.
                    let _ = done.send(outcome);
                }
            }
        }
    }

    /// What comes next in a lane; none, and no lane any more, when there is nothing.
    fn next(&self, core: &Core, deployment_id: DeploymentId) -> Option<(Turn, CancellationToken)> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(&deployment_id)?;
        lane.under_way = None;
        let next = if core.stop.is_cancelled() {
            None
        } else {
            lane.waiting.pop_front()
        };
        let Some(turn) = next else {
            lanes.remove(&deployment_id);
            return None;
        };
        let cancel = core.stop.child_token();
        if let Turn::Work(entry) = &turn {
            lane.under_way = Some(UnderWay {
                request: entry.request.clone(),
                cancel: cancel.clone(),
            });
        }
        Some((turn, cancel))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does work until it came to its end. A panic in it is a mistake of ours, which must neither leave
/// it undone until the next process nor have it done for ever: it is begun again some times, and
/// then given up, if that can be said of it.
async fn until_it_ends(core: &Arc<Core>, entry: WorkEntry, cancel: &CancellationToken) {
    let WorkRequest {
        id, deployment_id, ..
    } = entry.request;
    let mut pause = Backoff::default();
    let mut panics = 0;
    loop {
        let one = perform(core.clone(), entry.clone(), cancel.clone());
        match core.tasks.spawn(Box::pin(one)).await {
            Ok(()) => return,
            // The runtime is going down: the work is kept.
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(work_id = %id, %deployment_id, %error, "an action ended in a way that it never should")
            }
        }
        panics += 1;
        if panics > PANICS_BORNE {
            let given_up = action::give_up(core.clone(), entry.clone(), cancel.clone(), panics);
            match core.tasks.spawn(Box::pin(given_up)).await {
                Ok(Ending::Finished) => return,
                Ok(Ending::Kept) => {}
                Err(error) => {
                    tracing::error!(work_id = %id, %deployment_id, %error, "an action could not be given up either")
                }
            }
        }
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = pause.wait() => {}
        }
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
    let (is_dropped, is_overtaken) = core.journal.read(|state| {
        let is_dropped = !state.work.contains_key(&entry.arrival);
        (is_dropped, is_overtaken(state, &entry))
    });
    if is_dropped {
        return;
    }
    if is_overtaken {
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
        WorkAction::Deploy(_)
            | WorkAction::Adopt(_)
            | WorkAction::Start(_)
            | WorkAction::Restart(_)
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
