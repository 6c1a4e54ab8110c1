//! New revisions of a deployment, and giving one up.
use super::Commands;
use crate::error::CommandError;
use crate::view::{DeploymentView, RevisionView};
use shared::id::{DeploymentId, RevisionId};

pub(super) async fn redeploy(_commands: &Commands, id: DeploymentId, _git_ref: Option<String>) -> Result<DeploymentView, CommandError> {
    Err(CommandError::not_found("deployment", id))
}
pub(super) async fn rollback(_commands: &Commands, id: DeploymentId, _to: Option<i32>) -> Result<DeploymentView, CommandError> {
    Err(CommandError::not_found("deployment", id))
}
pub(super) async fn cancel(_commands: &Commands, id: RevisionId) -> Result<RevisionView, CommandError> {
    Err(CommandError::not_found("revision", id))
}
