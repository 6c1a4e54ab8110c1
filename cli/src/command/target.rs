//! Which deployment a command is about: by name, or by id.

use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::client::{Client, ClientError};
use crate::exit::Failure;
use serde_json::json;
use uuid::Uuid;

/// Which deployment a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// The deployment's name or id.
    #[arg(value_name = "DEPLOYMENT")]
    pub(crate) deployment: String,
}

/// Reads the deployment. What looks like an id is looked for as one first.
pub(crate) async fn find(client: &Client, target: &TargetArgs) -> Result<Deployment, Failure> {
    let given = &target.deployment;
    if Uuid::try_parse(given).is_ok() {
        match client
            .ask::<Only<Deployment>>(Document::DeploymentById, json!({ "id": given }))
            .await
        {
            Err(error) if error.is_not_found() => {}
            answer => return Ok(answer?.0),
        }
    }
    by_name(client, given).await?.ok_or_else(|| {
        Failure::input(format!(
            "there is no deployment `{}`",
            crate::output::line(given)
        ))
        .advise("see what there is: longshore deployment list")
    })
}

/// Reads a deployment by its name.
pub(crate) async fn by_name(
    client: &Client,
    name: &str,
) -> Result<Option<Deployment>, ClientError> {
    match client
        .ask::<Only<Deployment>>(Document::DeploymentByName, json!({ "name": name }))
        .await
    {
        Ok(answer) => Ok(Some(answer.0)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
