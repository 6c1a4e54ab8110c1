//! What a picture changes in the journal, and what is said because of it.

use super::disk::Room;
use super::draft::{Draft, key};
use super::{Standing, State, WorkEntry};
use shared::id::{DeploymentId, RevisionId, StoreIncarnation};
use shared::message::{
    Assigned, Assignments, DeploymentRemoved, NodeReport, Reconciled, ReportFacts, RevisionMissing,
    StatusReport, WorkAction, WorkRefused, WorkRequest,
};
use shared::name::NodeName;
use shared::status::ApplicationStatus;
use std::collections::HashMap;

/// What a picture assigned to this node, as far as late orders are measured by it.
#[derive(Debug)]
pub(super) struct AssignedHere {
    store: StoreIncarnation,
    as_of: i64,
    epochs: HashMap<RevisionId, i32>,
}

/// Which of the node's placements an order is; none when it places nothing.
#[must_use]
pub const fn given(action: &WorkAction) -> Option<i64> {
    match action {
        WorkAction::Deploy(work) => Some(work.given),
        WorkAction::Adopt(work) => Some(work.given),
        WorkAction::Stop(_)
        | WorkAction::Start(_)
        | WorkAction::Restart(_)
        | WorkAction::Destroy { .. }
        | WorkAction::Cancel
        | WorkAction::FollowLogs { .. }
        | WorkAction::UnfollowLogs { .. } => None,
    }
}

impl State {
    /// Whether an order places what a picture that is as new already saw placed elsewhere or ended.
    pub(super) fn is_no_longer_assigned(&self, request: &WorkRequest) -> bool {
        let (Some(given), Some(assigned)) = (given(&request.action), &self.assigned) else {
            return false;
        };
        let named = assigned.epochs.get(&request.revision_id);
        assigned.store == request.store
            && given <= assigned.as_of
            && named.is_none_or(|epoch| *epoch > request.epoch)
    }
}

impl Draft<'_> {
    /// A picture came: late orders are measured by it. Gives whether it is of another store than
    /// what came before.
    pub fn meet_picture(&mut self, picture: &Assignments) -> bool {
        let is_new = self.state.store.is_some_and(|store| store != picture.store);
        self.meet_store(picture.store);
        let is_late = self
            .state
            .assigned
            .as_ref()
            .is_some_and(|known| known.store == picture.store && known.as_of > picture.as_of);
        if !is_late {
            let epochs = picture
                .revisions
                .iter()
                .map(|assigned| (assigned.revision_id, assigned.epoch));
            self.state.assigned = Some(AssignedHere {
                store: picture.store,
                as_of: picture.as_of,
                epochs: epochs.collect(),
            });
        }
        is_new
    }

    /// Everything of a deployment but its volumes is about to go.
    pub fn deployment_leaves(&mut self, deployment_id: DeploymentId) {
        if self.state.leaving.insert(deployment_id) {
            self.put(
                Room::Leaving,
                deployment_id.0.as_bytes().to_vec(),
                &deployment_id,
            );
        }
    }

    /// Something of a deployment serves here again: it does not leave after all.
    pub fn deployment_stays(&mut self, deployment_id: DeploymentId) {
        if self.state.leaving.remove(&deployment_id) {
            self.remove(Room::Leaving, deployment_id.0.as_bytes().to_vec());
        }
    }

    /// Nothing of a deployment but its volumes is left: it is forgotten, and its end is said.
    pub fn deployment_left(&mut self, node: &NodeName, deployment_id: DeploymentId, as_of: i64) {
        // An order that waits goes on where the reports of its revision had come to: one that began
        // to count anew would be taken for a copy of what was said before.
        let waiting: Vec<_> = self
            .state
            .work
            .values()
            .filter(|entry| entry.request.deployment_id == deployment_id)
            .filter_map(|entry| {
                let revision_id = entry.request.revision_id;
                let standing = self.state.standings.get(&revision_id)?;
                Some((revision_id, standing.clone()))
            })
            .collect();
        self.deployment_remove(deployment_id);
        for (revision_id, standing) in waiting {
            self.standing_put(revision_id, standing);
        }
        self.say(NodeReport::Removed(DeploymentRemoved {
            node: node.clone(),
            deployment_id,
            as_of,
        }));
    }

    /// The picture names a revision that this node has no record of.
    pub fn say_missing(&mut self, node: &NodeName, assigned: &Assigned, adoptable: bool) {
        self.say(NodeReport::Missing(RevisionMissing {
            node: node.clone(),
            deployment_id: assigned.deployment_id,
            revision_id: assigned.revision_id,
            epoch: assigned.epoch,
            adoptable,
        }));
    }

    /// A picture is in force.
    pub fn say_reconciled(&mut self, node: &NodeName, store: StoreIncarnation, as_of: i64) {
        self.say(NodeReport::Reconciled(Reconciled {
            node: node.clone(),
            store,
            as_of,
        }));
    }

    /// Says once more where a revision stands, above every number that either side knows.
    pub fn report_again(
        &mut self,
        node: &NodeName,
        assigned: &Assigned,
        status: ApplicationStatus,
        facts: ReportFacts,
    ) {
        let known = self
            .state
            .standings
            .get(&assigned.revision_id)
            .filter(|known| known.epoch == assigned.epoch);
        let last_seq = known.map_or(0, |known| known.last_seq);
        let told = known.filter(|known| known.status == Some(status));
        let standing = Standing {
            deployment_id: assigned.deployment_id,
            epoch: assigned.epoch,
            last_seq: last_seq.max(assigned.last_report_seq).saturating_add(1),
            status: Some(status),
            failure_reason: told.and_then(|known| known.failure_reason),
            detail: told.and_then(|known| known.detail.clone()),
        };
        self.say(NodeReport::Status(StatusReport {
            node: node.clone(),
            deployment_id: assigned.deployment_id,
            revision_id: assigned.revision_id,
            epoch: assigned.epoch,
            seq: standing.last_seq,
            status,
            failure_reason: standing.failure_reason,
            detail: standing.detail.clone(),
            at: shared::clock::now(),
            facts,
        }));
        self.standing_put(assigned.revision_id, standing);
    }

    /// Accepted work that cannot be done after all.
    pub fn refuse(&mut self, node: &NodeName, entry: &WorkEntry, reason: String) {
        if self.state.work.remove(&entry.arrival).is_none() {
            return;
        }
        self.remove(Room::Work, key(entry.arrival));
        self.mark_done(entry.request.id);
        self.say(NodeReport::Refused(WorkRefused {
            node: node.clone(),
            work_id: entry.request.id,
            reason,
        }));
    }
}

/// Placements are counted by a store: another one's numbers say nothing, which is older than any.
pub(super) fn reset_given(draft: &mut Draft<'_>) {
    let records: Vec<_> = draft.state.deployments.values().cloned().collect();
    for mut record in records {
        if let Some(current) = record.current.as_mut().filter(|current| current.given != 0) {
            current.given = 0;
            draft.deployment_put(record);
        }
    }
    let work: Vec<_> = draft.state.work.values().cloned().collect();
    for mut entry in work {
        match &mut entry.request.action {
            WorkAction::Deploy(work) if work.given != 0 => work.given = 0,
            WorkAction::Adopt(work) if work.given != 0 => work.given = 0,
            _ => continue,
        }
        draft.work_put(entry);
    }
}
