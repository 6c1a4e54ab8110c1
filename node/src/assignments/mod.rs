//! Making this node have what the orchestrator's picture of it says, and nothing else.
//!
//! A picture comes when the node connects and every minute from then on. [`plan`] says what it asks
//! for. What is to go goes through the deployment's lane, before any work that waits there, so that
//! a stale attempt and its successor never meet over names, ports or networks. The rest is only
//! said. A picture that is lost or late does no harm: the next one says it again, and what was
//! given after it was made is left alone.

mod drift;
mod plan;

pub(crate) use drift::keep;

use crate::action;
use crate::backoff::Backoff;
use crate::core::Core;
use crate::journal::{Draft, JournalError, State};
use crate::lanes::Lanes;
use crate::runtime::{ContainerFacts, RuntimeError};
use plan::{Step, Wanted, locals, plan, wanted};
use shared::id::{DeploymentId, StoreIncarnation, WorkId};
use shared::message::{Assigned, Assignments, ReportFacts};
use shared::status::ApplicationStatus as S;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// How often one deployment is planned anew after something was done, at most: dropping work and
/// taking down what it left is two.
const ROUNDS: u32 = 4;

/// The newest picture, on its way from the queue to whoever puts it in force.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    newest: Mutex<Option<Picture>>,
    came: Notify,
}

/// A picture that came.
#[derive(Debug)]
struct Picture {
    told: Arc<Assignments>,
    /// What was begun because of it as it came, by what the journal alone says.
    begun: BTreeMap<DeploymentId, oneshot::Receiver<bool>>,
}

/// What a picture asks to change of one deployment.
struct Change {
    deployment_id: DeploymentId,
    wanted: Wanted,
    dropped: BTreeSet<WorkId>,
}

/// A picture came: orders that are older than it are measured by it from now on. Gives whether it is
/// of another store than what came before.
pub(crate) async fn meet(core: &Core, told: &Assignments) -> Result<bool, JournalError> {
    core.journal.change(|draft| draft.meet_picture(told)).await
}

/// Begins to put a picture in force. What the journal alone shows to be stale stands in the way of
/// all work that is passed on after this.
pub(crate) fn begin(core: &Arc<Core>, lanes: &Lanes, told: Assignments) {
    let mut begun = BTreeMap::new();
    for change in changes(core, &told, &[]) {
        begun.insert(change.deployment_id, make(core, lanes, change));
    }
    let told = Arc::new(told);
    core.pictures.put(Picture { told, begun });
}

/// Puts the newest picture in force, again and again, until the node stops.
pub(crate) async fn run(core: Arc<Core>, lanes: Lanes) {
    let stop = core.stop.clone();
    let mut next = None;
    loop {
        let picture = match next.take() {
            Some(picture) => picture,
            None => match stop.run_until_cancelled(core.pictures.take()).await {
                Some(picture) => picture,
                None => return,
            },
        };
        next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // What was begun goes on; the newer picture waits for it by itself.
            newer = core.pictures.take() => Some(newer),
            () = put_in_force(&core, &lanes, picture) => None,
        };
    }
}

async fn put_in_force(core: &Arc<Core>, lanes: &Lanes, picture: Picture) {
    let Picture { told, mut begun } = picture;
    let mut containers = containers(core).await;
    let named: HashSet<DeploymentId> = told
        .revisions
        .iter()
        .map(|assigned| assigned.deployment_id)
        .collect();
    core.journal
        .read(|state| containers.retain(|container| is_ours(container, told.store, &named, state)));
    for change in changes(core, &told, &containers) {
        if let std::collections::btree_map::Entry::Vacant(vacant) =
            begun.entry(change.deployment_id)
        {
            vacant.insert(make(core, lanes, change));
        }
    }
    let said = core
        .journal
        .change(|draft| say(draft, core, &told, &containers));
    if said.await.is_err() {
        return;
    }
    drift::look_at_all(core);
    let changed = begun.len();
    let mut is_in_force = true;
    for done in begun.into_values() {
        is_in_force &= done.await.unwrap_or(false);
    }
    if !is_in_force {
        tracing::warn!("a picture is not in force yet; the next one tries again");
        return;
    }
    if changed > 0 {
        tracing::info!(as_of = told.as_of, changed, "a picture is in force");
    }
    let node = &core.settings.name;
    let said = core
        .journal
        .change(|draft| draft.say_reconciled(node, told.store, told.as_of));
    if let Err(error) = said.await {
        tracing::debug!(%error, "the next process is told anew");
    }
}

/// Whether a picture has a say in a container. On one engine two installations may each have a node of
/// this name: what neither the journal nor the picture knows, and another store ordered, is not ours.
fn is_ours(
    container: &ContainerFacts,
    store: StoreIncarnation,
    named: &HashSet<DeploymentId>,
    state: &State,
) -> bool {
    let id = container.deployment_id;
    container.store == Some(store)
        || named.contains(&id)
        || state.deployments.contains_key(&id)
        || state.leaving.contains(&id)
}

/// Every container of ours, as soon as the engine says.
async fn containers(core: &Core) -> Vec<ContainerFacts> {
    let mut pause = Backoff::default();
    loop {
        core.engine_is_up().await;
        match core.runtime.list(None).await {
            Ok(containers) => return containers,
            Err(error) => {
                tracing::warn!(%error, "a picture waits for the container engine");
            }
        }
        pause.wait().await;
    }
}

/// What a picture asks to change, by deployment.
fn changes(core: &Core, told: &Assignments, containers: &[ContainerFacts]) -> Vec<Change> {
    let mut wanted = wanted(told);
    core.journal.read(|state| {
        let locals = locals(state, containers, None);
        let changes = locals.iter().filter_map(|(deployment_id, local)| {
            let wanted = wanted.remove(deployment_id).unwrap_or(Wanted {
                as_of: told.as_of,
                revisions: Vec::new(),
            });
            let steps = plan(&wanted, local);
            let dropped = steps.iter().find_map(|step| match step {
                Step::Drop(dropped) => Some(dropped.clone()),
                _ => None,
            });
            steps.iter().any(|step| !step.is_said()).then(|| Change {
                deployment_id: *deployment_id,
                wanted,
                dropped: dropped.unwrap_or_default(),
            })
        });
        changes.collect()
    })
}

fn make(core: &Arc<Core>, lanes: &Lanes, change: Change) -> oneshot::Receiver<bool> {
    let Change {
        deployment_id,
        wanted,
        dropped,
    } = change;
    let job = until_it_is_so(core.clone(), deployment_id, wanted);
    lanes.before_all(core, deployment_id, &dropped, Box::pin(job))
}

/// Makes one deployment as it should be, whatever the engine says to that at first. Called in the
/// deployment's lane, so that nothing else is done to it meanwhile.
async fn until_it_is_so(core: Arc<Core>, deployment_id: DeploymentId, wanted: Wanted) -> bool {
    let mut pause = Backoff::default();
    loop {
        match make_it_so(&core, deployment_id, &wanted).await {
            Ok(is_so) => return is_so,
            Err(error) => {
                tracing::warn!(%deployment_id, %error, "what is not meant to be here cannot be removed yet; trying again");
            }
        }
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return false,
            () = pause.wait() => {}
        }
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return false,
            () = core.engine_is_up() => {}
        }
    }
}

async fn make_it_so(
    core: &Arc<Core>,
    deployment_id: DeploymentId,
    wanted: &Wanted,
) -> Result<bool, RuntimeError> {
    for _ in 0..ROUNDS {
        let containers = core.runtime.list(Some(deployment_id)).await?;
        let steps = core.journal.read(|state| {
            locals(state, &containers, Some(deployment_id))
                .get(&deployment_id)
                .map(|local| plan(wanted, local))
                .unwrap_or_default()
        });
        let mut is_so = true;
        for step in steps.iter().filter(|step| !step.is_said()) {
            is_so = false;
            take(core, deployment_id, wanted, step).await?;
        }
        if is_so {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn take(
    core: &Arc<Core>,
    deployment_id: DeploymentId,
    wanted: &Wanted,
    step: &Step,
) -> Result<(), RuntimeError> {
    match step {
        Step::Drop(dropped) => {
            let node = &core.settings.name;
            let drop = |draft: &mut Draft<'_>| {
                let work = draft.state().unfinished();
                let dropped: Vec<_> = work
                    .filter(|entry| dropped.contains(&entry.request.id))
                    .cloned()
                    .collect();
                for entry in &dropped {
                    tracing::info!(work_id = %entry.request.id, %deployment_id, "work that is not meant for this node any more is dropped");
                    draft.finish(node, entry);
                }
            };
            let dropped = core.journal.change(drop).await;
            dropped.map_err(|error| RuntimeError::Away(error.to_string()))
        }
        Step::Evict(stale) => action::evict(core, deployment_id, *stale).await,
        Step::Remove(strays) => action::remove_strays(core, deployment_id, strays).await,
        Step::Leave => action::leave(core, deployment_id, wanted.as_of).await,
        Step::Missing { .. } | Step::SayAgain { .. } => Ok(()),
    }
}

/// Says what the picture has otherwise than it is here.
fn say(draft: &mut Draft<'_>, core: &Core, told: &Assignments, containers: &[ContainerFacts]) {
    let said: Vec<Step> = {
        let locals = locals(draft.state(), containers, None);
        let nothing = plan::Local::default();
        let steps = wanted(told)
            .into_iter()
            .flat_map(|(deployment_id, wanted)| {
                plan(&wanted, locals.get(&deployment_id).unwrap_or(&nothing))
            });
        steps.filter(Step::is_said).collect()
    };
    let node = &core.settings.name;
    for step in said {
        match step {
            Step::Missing {
                assigned,
                adoptable,
            } => {
                tracing::warn!(revision_id = %assigned.revision_id, epoch = assigned.epoch, adoptable, "a revision that should be here is not known here");
                draft.say_missing(node, &assigned, adoptable);
            }
            Step::SayAgain { assigned, status } => {
                let facts = facts(draft, &assigned, status);
                draft.report_again(node, &assigned, status, facts);
            }
            Step::Drop(_) | Step::Evict(_) | Step::Remove(_) | Step::Leave => {}
        }
    }
}

/// What is known of a revision that serves or is stopped; of one that came to its end, nothing is.
fn facts(draft: &Draft<'_>, assigned: &Assigned, status: S) -> ReportFacts {
    let record = draft.state().deployments.get(&assigned.deployment_id);
    let running = record
        .and_then(|record| record.current.as_ref())
        .filter(|running| running.revision_id == assigned.revision_id);
    match running {
        Some(running) if status == S::Degraded => ReportFacts {
            // Which of its services is down is the sentinel's to say.
            services: None,
            ..action::running_facts(running)
        },
        Some(running) => action::running_facts(running),
        None => ReportFacts::default(),
    }
}

impl Pictures {
    fn put(&self, picture: Picture) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
        self.came.notify_one();
    }

    async fn take(&self) -> Picture {
        loop {
            let newest = self
                .newest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(picture) = newest {
                return picture;
            }
            self.came.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Attempt, DeploymentRecord};
    use shared::name::{DeploymentName, ServiceName};

    #[test]
    fn a_picture_has_no_say_in_what_another_installation_runs() {
        let (ours, other) = (StoreIncarnation::new(), StoreIncarnation::new());
        let [known, named, leaving, unknown] = [(); 4].map(|()| DeploymentId::new());
        let mut state = State::default();
        let record = DeploymentRecord::new(known, DeploymentName::parse("app").unwrap());
        state.deployments.insert(known, record);
        state.leaving.insert(leaving);
        let named_ones = HashSet::from([named]);
        let cases = [
            (unknown, Some(ours), true),
            (unknown, Some(other), false),
            (unknown, None, false),
            (known, Some(other), true),
            (named, None, true),
            (leaving, Some(other), true),
        ];
        for (deployment_id, store, expected) in cases {
            let container = ContainerFacts {
                id: "c".to_owned(),
                deployment_id,
                service: ServiceName::app(),
                attempt: Attempt {
                    revision: 1,
                    epoch: 1,
                },
                store,
            };
            assert_eq!(
                is_ours(&container, ours, &named_ones, &state),
                expected,
                "{container:?}"
            );
        }
    }
}
