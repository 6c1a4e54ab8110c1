//! The changes that a journal knows. Each keeps memory and file in step.

use super::destruction::is_destruction;
use super::disk::{Op, Room};
use super::picture::reset_given;
use super::{DeploymentRecord, Standing, State, WorkEntry};
use serde::Serialize;
use shared::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use shared::message::{
    NodeReport, ReportFacts, StatusReport, WorkAction, WorkReceipt, WorkRefused, WorkRequest,
};
use shared::name::NodeName;
use shared::source::{CommitId, ImageDigest, Source};
use shared::status::{ApplicationStatus, FailureReason, Outcome, transition};

pub(super) const STORE_KEY: &[u8] = b"store";

/// The attempt of a revision while the store was replaced and has not named one: older than any.
const ANY_EPOCH: i32 = i32::MIN;

/// How many finished work requests are remembered, to know them when they are delivered again.
const DONE_LIMIT: usize = 4096;

/// How many unsent reports are kept; beyond it the oldest news of a crash are forgotten first.
const REPORT_LIMIT: usize = 20_000;

/// How much of a report's detail is kept to be told again, in bytes.
const DETAIL_KEPT: usize = 1024;

/// What became of a work request that was delivered.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// New, and now in the journal.
    New(Box<WorkEntry>),
    /// Known already: it is said again where it stands.
    Repeated,
    /// Not to be done; that is said as well.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A step of a revision that is to be reported.
#[derive(Clone, Debug, Default)]
pub struct StepReport {
    /// Why, when it failed.
    pub failure_reason: Option<FailureReason>,
    /// What a person should know, already bounded and safe to show.
    pub detail: Option<String>,
    /// What was learnt.
    pub facts: ReportFacts,
}

/// A change in the making: what is done through it is written together.
#[derive(Debug)]
pub struct Draft<'a> {
    pub(super) state: &'a mut State,
    ops: Vec<Op>,
}

impl<'a> Draft<'a> {
    pub(super) const fn new(state: &'a mut State) -> Self {
        Self {
            state,
            ops: Vec::new(),
        }
    }

    pub(super) fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// What is remembered, with the changes so far.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.state
    }

    /// Takes a work request in, unless it is known, of an older attempt, or for something that is
    /// gone or given up, and says which.
    pub fn accept(&mut self, node: &NodeName, request: WorkRequest) -> Acceptance {
        let receipt = WorkReceipt {
            node: node.clone(),
            work_id: request.id,
        };
        self.meet_store(request.store);
        if self.state.done_ids.contains(&request.id) {
            self.say(NodeReport::Accepted(receipt.clone()));
            if is_destruction(&request) {
                self.destroyed_again(node, &request);
            }
            self.say(NodeReport::Finished(receipt));
            return Acceptance::Repeated;
        }
        if self
            .state
            .work
            .values()
            .any(|entry| entry.request.id == request.id)
        {
            self.say(NodeReport::Accepted(receipt));
            return Acceptance::Repeated;
        }
        if let Some(reason) = self.objection(&request) {
            self.mark_done(request.id);
            self.say(NodeReport::Refused(WorkRefused {
                node: node.clone(),
                work_id: request.id,
                reason: reason.clone(),
            }));
            return Acceptance::Refused { reason };
        }
        self.raise_standing(&request);
        let entry = WorkEntry {
            arrival: self.state.next_arrival,
            attempts: 0,
            request,
        };
        self.state.next_arrival += 1;
        self.work_put(entry.clone());
        self.say(NodeReport::Accepted(receipt));
        Acceptance::New(Box::new(entry))
    }

    fn objection(&self, request: &WorkRequest) -> Option<String> {
        if let Some(reason) = self.state.is_past(request) {
            return Some(reason.to_owned());
        }
        if self.state.is_no_longer_assigned(request) {
            return Some("it is not assigned to this node any more".to_owned());
        }
        let standing = self.state.standings.get(&request.revision_id)?;
        let known = standing.epoch;
        if request.epoch < known {
            return Some(format!(
                "attempt {} is older than attempt {known}",
                request.epoch
            ));
        }
        // A delivery that comes again comes late: its own cancel may have been here before it.
        let begins = matches!(request.action, WorkAction::Deploy(_)) && request.epoch == known;
        let ended = standing.status.filter(|status| begins && status.is_final());
        ended.map(|status| format!("attempt {known} was {status} before it arrived"))
    }

    /// Another store than before means that it was restored from a backup: what was counted
    /// against the old one counts no more, and what it had destroyed or seen done may be wanted
    /// again. Only reports go on being counted, since the backup has some of their numbers.
    pub(super) fn meet_store(&mut self, store: StoreIncarnation) {
        if self.state.store == Some(store) {
            return;
        }
        if self.state.store.replace(store).is_some() {
            tracing::warn!(%store, "the orchestrator's store was replaced; its word on attempts and reports counts now");
            let known: Vec<_> = self.state.standings.clone().into_iter().collect();
            for (revision_id, standing) in known {
                let standing = Standing {
                    epoch: ANY_EPOCH,
                    status: None,
                    ..standing
                };
                self.standing_put(revision_id, standing);
            }
            self.forget_what_is_over();
            reset_given(self);
        }
        self.put(Room::Meta, STORE_KEY.to_vec(), &store);
    }

    fn forget_what_is_over(&mut self) {
        for number in std::mem::take(&mut self.state.done).into_keys() {
            self.remove(Room::Done, key(number));
        }
        self.state.done_ids.clear();
        for deployment_id in std::mem::take(&mut self.state.destroyed) {
            self.remove(Room::Destroyed, deployment_id.0.as_bytes().to_vec());
        }
    }

    fn raise_standing(&mut self, request: &WorkRequest) {
        let known = self
            .state
            .standings
            .get(&request.revision_id)
            .filter(|known| [request.epoch, ANY_EPOCH].contains(&known.epoch));
        let standing = Standing {
            deployment_id: request.deployment_id,
            epoch: request.epoch,
            last_seq: known
                .map_or(0, |known| known.last_seq)
                .max(request.last_report_seq),
            status: known.and_then(|known| known.status),
            failure_reason: known.and_then(|known| known.failure_reason),
            detail: known.and_then(|known| known.detail.clone()),
        };
        self.standing_put(request.revision_id, standing);
    }

    /// Counts one more beginning of a work request's action; gives how often it was begun before.
    pub fn begin(&mut self, arrival: u64) -> u32 {
        let Some(mut entry) = self.state.work.get(&arrival).cloned() else {
            return 0;
        };
        let before = entry.attempts;
        entry.attempts = before.saturating_add(1);
        self.work_put(entry);
        before
    }

    /// A deployment action is about this version from now on, also when it is begun again: its ref or
    /// tag may lead elsewhere by then.
    pub fn version_found(
        &mut self,
        arrival: u64,
        commit: Option<&CommitId>,
        digest: Option<&ImageDigest>,
    ) {
        let Some(mut entry) = self.state.work.get(&arrival).cloned() else {
            return;
        };
        let WorkAction::Deploy(work) = &mut entry.request.action else {
            return;
        };
        match (&mut work.source, commit, digest) {
            (Source::GitApp(_), Some(commit), _) if work.commit.is_none() => {
                work.commit = Some(commit.clone());
            }
            (Source::Image(source), _, Some(digest)) if source.image.digest().is_none() => {
                source.image = source.image.at(digest);
            }
            _ => return,
        }
        self.work_put(entry);
    }

    /// A work request came to its end.
    pub fn finish(&mut self, node: &NodeName, entry: &WorkEntry) {
        if self.state.work.remove(&entry.arrival).is_none() {
            return;
        }
        self.ops.push(Op {
            room: Room::Work,
            key: key(entry.arrival),
            value: None,
        });
        self.mark_done(entry.request.id);
        self.say(NodeReport::Finished(WorkReceipt {
            node: node.clone(),
            work_id: entry.request.id,
        }));
    }

    /// Reports where a revision stands, unless that was said before, does not follow from what was
    /// said, or is the word of an older attempt. Gives whether it was news.
    pub fn report(
        &mut self,
        node: &NodeName,
        deployment_id: DeploymentId,
        revision_id: RevisionId,
        epoch: i32,
        status: ApplicationStatus,
        step: StepReport,
    ) -> bool {
        let mut standing = self
            .state
            .standings
            .get(&revision_id)
            .cloned()
            .unwrap_or(Standing {
                deployment_id,
                epoch,
                last_seq: 0,
                status: None,
                failure_reason: None,
                detail: None,
            });
        if standing.epoch == ANY_EPOCH {
            standing.epoch = epoch;
        }
        if standing.epoch != epoch {
            return false;
        }
        let is_news = match standing.status.map(|from| transition(from, status)) {
            None | Some(Ok(Outcome::Moved)) => true,
            Some(Ok(Outcome::Unchanged)) => {
                step.detail.is_some() || step.facts != ReportFacts::default()
            }
            Some(Err(_)) => false,
        };
        if !is_news {
            return false;
        }
        standing.last_seq += 1;
        standing.status = Some(status);
        standing.failure_reason = step.failure_reason;
        standing.detail = step.detail.as_deref().map(kept);
        let seq = standing.last_seq;
        self.standing_put(revision_id, standing);
        self.say(NodeReport::Status(StatusReport {
            node: node.clone(),
            deployment_id,
            revision_id,
            epoch,
            seq,
            status,
            failure_reason: step.failure_reason,
            detail: step.detail,
            at: shared::clock::now(),
            facts: step.facts,
        }));
        true
    }

    /// What serves from now on is not at its end, whatever was said of it before its record was lost.
    pub fn revived(&mut self, revision_id: RevisionId) {
        let known = self.state.standings.get(&revision_id).cloned();
        if let Some(standing) = known.filter(|known| known.status.is_some_and(|it| it.is_final())) {
            let standing = Standing {
                status: None,
                failure_reason: None,
                detail: None,
                ..standing
            };
            self.standing_put(revision_id, standing);
        }
    }

    /// Remembers what this node has of a deployment.
    pub fn deployment_put(&mut self, record: DeploymentRecord) {
        self.put(
            Room::Deployments,
            record.deployment_id.0.as_bytes().to_vec(),
            &record,
        );
        self.state.deployments.insert(record.deployment_id, record);
    }

    /// Changes what this node has of a deployment, if it has anything.
    pub fn deployment_edit(
        &mut self,
        deployment_id: DeploymentId,
        edit: impl FnOnce(&mut DeploymentRecord),
    ) {
        if let Some(mut record) = self.state.deployments.get(&deployment_id).cloned() {
            edit(&mut record);
            self.deployment_put(record);
        }
    }

    /// These reports were sent, up to and without number `until`.
    pub fn reports_sent(&mut self, until: u64) {
        while let Some(first) = self
            .state
            .reports
            .first_entry()
            .filter(|first| *first.key() < until)
        {
            self.ops.push(Op {
                room: Room::Reports,
                key: key(*first.key()),
                value: None,
            });
            first.remove();
        }
    }

    pub(super) fn say(&mut self, report: NodeReport) {
        let number = self.state.next_report;
        self.state.next_report += 1;
        self.put(Room::Reports, key(number), &report);
        self.state.reports.insert(number, report);
        if self.state.reports.len() > REPORT_LIMIT {
            self.forget_a_report();
        }
    }

    /// A crash that is over is the least of what the orchestrator must hear once it is back.
    fn forget_a_report(&mut self) {
        let degraded = |report: &NodeReport| matches!(report, NodeReport::Status(status) if status.status == ApplicationStatus::Degraded);
        let oldest = self
            .state
            .reports
            .iter()
            .find(|(_, report)| degraded(report))
            .or(self.state.reports.iter().next());
        let Some(number) = oldest.map(|(number, _)| *number) else {
            return;
        };
        self.state.reports.remove(&number);
        self.ops.push(Op {
            room: Room::Reports,
            key: key(number),
            value: None,
        });
    }

    pub(super) fn work_put(&mut self, entry: WorkEntry) {
        self.put(Room::Work, key(entry.arrival), &entry);
        self.state.work.insert(entry.arrival, entry);
    }

    pub(super) fn mark_done(&mut self, id: WorkId) {
        let number = self.state.next_done;
        self.state.next_done += 1;
        self.put(Room::Done, key(number), &id);
        self.state.done.insert(number, id);
        self.state.done_ids.insert(id);
        while self.state.done.len() > DONE_LIMIT
            && let Some((number, oldest)) = self.state.done.pop_first()
        {
            self.state.done_ids.remove(&oldest);
            self.ops.push(Op {
                room: Room::Done,
                key: key(number),
                value: None,
            });
        }
    }

    pub(super) fn standing_put(&mut self, revision_id: RevisionId, standing: Standing) {
        self.put(
            Room::Standings,
            revision_id.0.as_bytes().to_vec(),
            &(revision_id, &standing),
        );
        self.state.standings.insert(revision_id, standing);
    }

    /// Forgets what this node had of a deployment, and how far its revisions' reports had come.
    pub(super) fn deployment_remove(&mut self, deployment_id: DeploymentId) {
        if self.state.deployments.remove(&deployment_id).is_some() {
            self.remove(Room::Deployments, deployment_id.0.as_bytes().to_vec());
        }
        self.deployment_stays(deployment_id);
        let standings = self.state.standings.iter();
        let gone: Vec<RevisionId> = standings
            .filter(|(_, standing)| standing.deployment_id == deployment_id)
            .map(|(id, _)| *id)
            .collect();
        for revision_id in gone {
            self.standing_remove(revision_id);
        }
    }

    pub(super) fn standing_remove(&mut self, revision_id: RevisionId) {
        if self.state.standings.remove(&revision_id).is_some() {
            self.ops.push(Op {
                room: Room::Standings,
                key: revision_id.0.as_bytes().to_vec(),
                value: None,
            });
        }
    }

    pub(super) fn remove(&mut self, room: Room, key: Vec<u8>) {
        self.ops.push(Op {
            room,
            key,
            value: None,
        });
    }

    pub(super) fn put<T: Serialize>(&mut self, room: Room, key: Vec<u8>, value: &T) {
        // Our own types have string keys and finite numbers only: nothing in them that JSON refuses.
        let value = serde_json::to_vec(value).unwrap_or_default();
        self.ops.push(Op {
            room,
            key,
            value: Some(value),
        });
    }
}

/// The beginning of a detail, as much as is kept of it.
fn kept(detail: &str) -> String {
    detail[..detail.floor_char_boundary(DETAIL_KEPT)].to_owned()
}

pub(super) fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}
