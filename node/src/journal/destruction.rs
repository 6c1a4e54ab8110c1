//! Deployments that were destroyed here: nothing that comes later brings them back.

use super::State;
use super::disk::Room;
use super::draft::{Draft, StepReport};
use shared::id::DeploymentId;
use shared::message::{WorkAction, WorkRequest};
use shared::name::NodeName;
use shared::status::ApplicationStatus;

/// How many destroyed deployments are remembered, so that late work does not bring them back.
const DESTROYED_LIMIT: usize = 4096;

impl State {
    /// Why nothing is done any more for a deployment that is, or is being, destroyed here.
    pub(super) fn is_past(&self, request: &WorkRequest) -> Option<&'static str> {
        if is_destruction(request) {
            return None;
        }
        if self.destroyed.contains(&request.deployment_id) {
            return Some("the deployment was destroyed here");
        }
        let is_going = self.unfinished().any(|entry| {
            entry.request.deployment_id == request.deployment_id && is_destruction(&entry.request)
        });
        is_going.then_some("the deployment is being destroyed here")
    }
}

impl Draft<'_> {
    /// A deployment is gone for good: nothing of it is remembered but that.
    pub fn deployment_destroyed(&mut self, deployment_id: DeploymentId) {
        self.deployment_remove(deployment_id);
        self.state.destroyed.insert(deployment_id);
        self.put(
            Room::Destroyed,
            deployment_id.0.as_bytes().to_vec(),
            &deployment_id,
        );
        // Ids sort by the time that they were made, so the first is the oldest.
        while self.state.destroyed.len() > DESTROYED_LIMIT
            && let Some(oldest) = self.state.destroyed.pop_first()
        {
            self.remove(Room::Destroyed, oldest.0.as_bytes().to_vec());
        }
    }

    /// Says once more that a deployment is gone. Whoever asks again has not heard it, and no picture
    /// tells what was said of something that is gone.
    pub(super) fn destroyed_again(&mut self, node: &NodeName, request: &WorkRequest) {
        self.report(
            node,
            request.deployment_id,
            request.revision_id,
            request.epoch,
            ApplicationStatus::Destroyed,
            StepReport::default(),
        );
        self.standing_remove(request.revision_id);
    }
}

/// Nothing can be asked of a deployment after this: what comes later is late.
pub(super) const fn is_destruction(request: &WorkRequest) -> bool {
    matches!(request.action, WorkAction::Destroy { .. })
}
