//! Starting, stopping, restarting and destroying.
use super::Commands;
use crate::error::CommandError;
use crate::view::DeploymentView;
use shared::id::DeploymentId;

pub(super) async fn start(_commands: &Commands, id: DeploymentId, _services: &[String]) -> Result<DeploymentView, CommandError> {
    Err(CommandError::not_found("deployment", id))
}
pub(super) async fn stop(_commands: &Commands, id: DeploymentId, _services: &[String]) -> Result<DeploymentView, CommandError> {
    Err(CommandError::not_found("deployment", id))
}
pub(super) async fn restart(_commands: &Commands, id: DeploymentId, _services: &[String]) -> Result<DeploymentView, CommandError> {
    Err(CommandError::not_found("deployment", id))
}
pub(super) async fn destroy(commands: &Commands, id: DeploymentId, _volumes: bool) -> Result<DeploymentView, CommandError> {
    commands.recorded(id, Vec::new()).await
}
