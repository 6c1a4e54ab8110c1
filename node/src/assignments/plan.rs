//! What a picture asks of one deployment here: a pure function over the picture, the journal and
//! the containers that carry our labels.
//!
//! | here | the picture | then |
//! |---|---|---|
//! | an attempt that was given later than the picture was made | whatever | it stays |
//! | an attempt | names it, or an older one of its revision | it stays |
//! | an attempt | names a newer one, or not its revision at all | unfinished work is dropped, containers go |
//! | anything, and nothing that stays | names no revision of the deployment | all but volumes goes |
//! | an attempt that failed after it had served | names it | it stays, and nothing is said of it |
//! | no record of a revision | says that it serves, is stopped or starts | it is missing |
//! | what was said last of a revision | says something else | it is said again |
//! | whatever | the deployment is being destroyed | left to that order |

use crate::journal::{
    Attempt, DeploymentRecord, RunningRevision, Standing, State, WorkEntry, given,
};
use crate::runtime::ContainerFacts;
use shared::id::{DeploymentId, RevisionId, WorkId};
use shared::message::{Assigned, Assignments, WorkAction};
use shared::status::{ApplicationStatus as S, transition};
use std::collections::{BTreeMap, BTreeSet};

/// What a picture says of one deployment.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The last placement that the picture knows of.
    pub(super) as_of: i64,
    /// Its revisions here that have not come to their end.
    pub(super) revisions: Vec<Assigned>,
}

/// What one deployment has here.
#[derive(Debug, Default)]
pub(super) struct Local<'a> {
    pub(super) record: Option<&'a DeploymentRecord>,
    pub(super) work: Vec<&'a WorkEntry>,
    pub(super) standings: Vec<(RevisionId, &'a Standing)>,
    pub(super) containers: Vec<&'a ContainerFacts>,
    /// Its removal was begun by an earlier picture.
    pub(super) is_leaving: bool,
}

/// One thing to do or to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Interrupt and drop this unfinished work.
    Drop(BTreeSet<WorkId>),
    /// Take down the attempt that serves.
    Evict(Attempt),
    /// Remove the containers of attempts that only their labels tell of.
    Remove(BTreeSet<Attempt>),
    /// Remove everything but volumes, and say so.
    Leave,
    /// Say that a revision is missing.
    Missing {
        /// Which.
        assigned: Box<Assigned>,
        /// Whether containers of this very attempt are there.
        adoptable: bool,
    },
    /// Say again where a revision stands.
    SayAgain {
        /// Which.
        assigned: Box<Assigned>,
        /// Where it stands.
        status: S,
    },
}

impl Step {
    /// Whether it is only said; the others change what is there.
    pub(super) const fn is_said(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::SayAgain { .. })
    }
}

/// What a picture says of each deployment that it names.
pub(super) fn wanted(picture: &Assignments) -> BTreeMap<DeploymentId, Wanted> {
    let mut wanted: BTreeMap<DeploymentId, Wanted> = BTreeMap::new();
    for assigned in &picture.revisions {
        let of_deployment = wanted.entry(assigned.deployment_id).or_insert(Wanted {
            as_of: picture.as_of,
            revisions: Vec::new(),
        });
        of_deployment.revisions.push(assigned.clone());
    }
    wanted
}

/// What each deployment has here; those that are given, or all.
pub(super) fn locals<'a>(
    state: &'a State,
    containers: &'a [ContainerFacts],
    only: Option<DeploymentId>,
) -> BTreeMap<DeploymentId, Local<'a>> {
    let is_meant = |id: &DeploymentId| only.is_none_or(|only| only == *id);
    let mut locals: BTreeMap<DeploymentId, Local<'a>> = BTreeMap::new();
    for (id, record) in state.deployments.iter().filter(|(id, _)| is_meant(id)) {
        locals.entry(*id).or_default().record = Some(record);
    }
    for entry in state.unfinished() {
        let id = entry.request.deployment_id;
        if is_meant(&id) {
            locals.entry(id).or_default().work.push(entry);
        }
    }
    for container in containers {
        if is_meant(&container.deployment_id) {
            let local = locals.entry(container.deployment_id).or_default();
            local.containers.push(container);
        }
    }
    for id in state.leaving.iter().filter(|id| is_meant(id)) {
        locals.entry(*id).or_default().is_leaving = true;
    }
    for (revision_id, standing) in &state.standings {
        if is_meant(&standing.deployment_id) {
            let local = locals.entry(standing.deployment_id).or_default();
            local.standings.push((*revision_id, standing));
        }
    }
    locals
}

/// What is to be done and said.
pub(super) fn plan(wanted: &Wanted, local: &Local<'_>) -> Vec<Step> {
    let is_destroyed = wanted.revisions.iter().any(|assigned| assigned.destroying)
        || local
            .work
            .iter()
            .any(|entry| matches!(entry.request.action, WorkAction::Destroy { .. }));
    if is_destroyed {
        return Vec::new();
    }
    let mut steps = removals(wanted, local);
    if local.work.is_empty() {
        let said = wanted
            .revisions
            .iter()
            .filter_map(|assigned| word(assigned, local));
        steps.extend(said);
    }
    steps
}

fn removals(wanted: &Wanted, local: &Local<'_>) -> Vec<Step> {
    let current = local.record.and_then(|record| record.current.as_ref());
    let stale_current = current.filter(|running| {
        running.given <= wanted.as_of && !wanted.names(running.revision_id, running.attempt)
    });
    let dropped: BTreeSet<WorkId> = local
        .work
        .iter()
        .filter(|entry| is_stale_work(wanted, entry, stale_current))
        .map(|entry| entry.request.id)
        .collect();
    let stays = current.is_some() && stale_current.is_none()
        || local
            .work
            .iter()
            .any(|entry| is_placement(entry) && !dropped.contains(&entry.request.id));
    let strays = strays(wanted, local);
    let mut steps = Vec::new();
    if !dropped.is_empty() {
        steps.push(Step::Drop(dropped));
    }
    let is_here = local.record.is_some() || local.is_leaving || !local.containers.is_empty();
    if wanted.revisions.is_empty() && !stays && is_here {
        steps.push(Step::Leave);
        return steps;
    }
    if let Some(stale) = stale_current {
        steps.push(Step::Evict(stale.attempt));
    }
    if !strays.is_empty() {
        steps.push(Step::Remove(strays));
    }
    steps
}

/// A placement that the picture knows to have ended or to be another node's, and what is done to
/// the attempt that serves and is not to.
fn is_stale_work(
    wanted: &Wanted,
    entry: &WorkEntry,
    stale_current: Option<&RunningRevision>,
) -> bool {
    let attempt = attempt_of(entry);
    match (given(&entry.request.action), &entry.request.action) {
        (Some(given), _) => {
            given <= wanted.as_of && !wanted.names(entry.request.revision_id, attempt)
        }
        (None, WorkAction::Start(_) | WorkAction::Restart(_)) => {
            stale_current.is_some_and(|stale| stale.attempt == attempt)
        }
        (None, _) => false,
    }
}

const fn is_placement(entry: &WorkEntry) -> bool {
    given(&entry.request.action).is_some()
}

const fn attempt_of(entry: &WorkEntry) -> Attempt {
    Attempt {
        revision: entry.request.revision,
        epoch: entry.request.epoch,
    }
}

/// Attempts with containers that the journal does not know and the picture does not want. When they
/// were given is not known, so that they are older than any picture.
fn strays(wanted: &Wanted, local: &Local<'_>) -> BTreeSet<Attempt> {
    let mut known: BTreeSet<Attempt> = local
        .work
        .iter()
        .filter(|entry| is_placement(entry))
        .map(|entry| attempt_of(entry))
        .collect();
    if let Some(record) = local.record {
        known.extend(record.retiring.iter().copied());
        known.extend(record.current.iter().map(|running| running.attempt));
    }
    local
        .containers
        .iter()
        .map(|container| container.attempt)
        .filter(|attempt| !known.contains(attempt) && !wanted.keeps(*attempt))
        .collect()
}

/// What is to be said of a revision that the picture names, when nothing is under way here.
fn word(assigned: &Assigned, local: &Local<'_>) -> Option<Step> {
    if assigned.status.is_final() {
        // Nothing can follow: it is named for what it leaves here.
        return None;
    }
    let mine = Attempt {
        revision: assigned.revision,
        epoch: assigned.epoch,
    };
    let current = local.record.and_then(|record| record.current.as_ref());
    let said = local
        .standings
        .iter()
        .find(|(id, standing)| *id == assigned.revision_id && standing.epoch == assigned.epoch)
        .and_then(|(_, standing)| standing.status);
    let again = |status: S| {
        (status != assigned.status).then(|| Step::SayAgain {
            assigned: Box::new(assigned.clone()),
            status,
        })
    };
    match current {
        Some(running) if running.attempt == mine && running.revision_id == assigned.revision_id => {
            let by_record = if running.is_stopped() {
                S::Stopped
            } else {
                S::Running
            };
            // An end that was said before it was taken up is over.
            again(
                said.filter(|status| status.is_live() || *status == S::Stopped)
                    .unwrap_or(by_record),
            )
        }
        // It was replaced here, and that was said.
        Some(running) if running.attempt.revision > mine.revision => None,
        // The picture is older than what runs.
        Some(running)
            if running.attempt.revision == mine.revision && running.attempt.epoch > mine.epoch =>
        {
            None
        }
        _ => match said {
            // What cannot follow would change nothing: a cancel, say, that came after the journal was
            // lost, for what had been said to run by then. It is missing instead.
            Some(status) if status.is_final() && transition(assigned.status, status).is_ok() => {
                again(status)
            }
            _ if should_be_known(assigned.status) => Some(Step::Missing {
                assigned: Box::new(assigned.clone()),
                adoptable: local
                    .containers
                    .iter()
                    .any(|container| container.attempt == mine),
            }),
            // It is open without work: its lease ends, and it is placed anew.
            _ => None,
        },
    }
}

/// Whether a revision that stands there has a record here, or work under way. On its way to serve for
/// the first time its lease says the same; on the way back, from a stop or in a restart, nothing else does.
fn should_be_known(status: S) -> bool {
    status.is_live() || matches!(status, S::Stopped | S::Starting | S::Verifying)
}

impl Wanted {
    /// The same for a revision whose id is known: a store that was restored gives a number twice.
    fn names(&self, revision_id: RevisionId, attempt: Attempt) -> bool {
        self.revisions
            .iter()
            .any(|named| named.revision_id == revision_id && named.epoch <= attempt.epoch)
    }

    /// Whether an attempt is wanted, or newer than what the picture knows of its revision.
    fn keeps(&self, attempt: Attempt) -> bool {
        self.revisions
            .iter()
            .any(|named| named.revision == attempt.revision && named.epoch <= attempt.epoch)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
