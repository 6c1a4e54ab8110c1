//! New revisions of a deployment, and giving one up.

use super::{Commands, input};
use crate::error::CommandError;
use crate::store::{NewRevision, RollbackTo};
use crate::view::{DeploymentView, RevisionView};
use shared::id::{DeploymentId, RevisionId};
use shared::status::RevisionCause;

pub(super) async fn redeploy(
    commands: &Commands,
    id: DeploymentId,
    git_ref: Option<String>,
) -> Result<DeploymentView, CommandError> {
    let git_ref = git_ref.as_deref().map(input::git_ref).transpose()?;
    let new = NewRevision {
        deployment_id: id,
        cause: RevisionCause::Redeploy,
        git_ref,
    };
    let acted = commands.store.revision_request(&new).await?;
    commands.recorded(id, acted).await
}

pub(super) async fn rollback(
    commands: &Commands,
    id: DeploymentId,
    to_revision: Option<i32>,
) -> Result<DeploymentView, CommandError> {
    let to = to_revision.map_or(RollbackTo::LastGood, RollbackTo::Number);
    let acted = commands.store.revision_rollback(id, to).await?;
    commands.recorded(id, acted).await
}

pub(super) async fn cancel(
    commands: &Commands,
    id: RevisionId,
) -> Result<RevisionView, CommandError> {
    let acted = commands.store.revision_cancel(id).await?;
    commands.announce(acted);
    commands
        .queries
        .revision_by_id(id)
        .await?
        .ok_or_else(|| CommandError::not_found("revision", id))
}
