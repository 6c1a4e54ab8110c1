//! `longshore deployment stop`.

use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Stop a deployment's containers and keep them, its ports and volumes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment stop hello")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Only this service; may be given several times. All when absent.
    #[arg(long = "service", value_name = "NAME", value_delimiter = ',')]
    services: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let services = (!arguments.services.is_empty()).then_some(arguments.services);
    let variables = json!({ "id": deployment.id, "services": services });
    let deployment: Only<Deployment> = client.ask(Document::Stop, variables).await?;
    super::tell(
        arguments.server.output,
        &deployment.0,
        &format!(
            "{} is being stopped; its ports and volumes are kept",
            deployment.0.name
        ),
    )?;
    Ok(Exit::Done)
}
