//! Starting, stopping, restarting and destroying.

use super::{Commands, input};
use crate::error::CommandError;
use crate::view::DeploymentView;
use shared::id::DeploymentId;

pub(super) async fn start(
    commands: &Commands,
    id: DeploymentId,
    services: &[String],
) -> Result<DeploymentView, CommandError> {
    let acted = commands
        .store
        .deployment_start(id, input::services(services)?)
        .await?;
    commands.recorded(id, acted).await
}

pub(super) async fn stop(
    commands: &Commands,
    id: DeploymentId,
    services: &[String],
) -> Result<DeploymentView, CommandError> {
    let acted = commands
        .store
        .deployment_stop(id, input::services(services)?)
        .await?;
    commands.recorded(id, acted).await
}

pub(super) async fn restart(
    commands: &Commands,
    id: DeploymentId,
    services: &[String],
) -> Result<DeploymentView, CommandError> {
    let acted = commands
        .store
        .deployment_restart(id, input::services(services)?)
        .await?;
    commands.recorded(id, acted).await
}

pub(super) async fn destroy(
    commands: &Commands,
    id: DeploymentId,
    volumes: bool,
) -> Result<DeploymentView, CommandError> {
    let acted = commands.store.deployment_destroy(id, volumes).await?;
    commands.recorded(id, acted).await
}
