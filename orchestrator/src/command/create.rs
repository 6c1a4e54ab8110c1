//! Making a deployment.
use super::{Commands, CreateDeployment};
use crate::error::CommandError;
use crate::view::DeploymentView;

pub(super) async fn create(_commands: &Commands, input: CreateDeployment) -> Result<DeploymentView, CommandError> {
    Err(CommandError::invalid("name", input.name))
}
