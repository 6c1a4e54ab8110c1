//! What is done to the services of a deployment: started, stopped, restarted.

use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Services of a deployment.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Only this service; may be given several times. All when absent.
    #[arg(long = "service", value_name = "NAME", value_delimiter = ',')]
    services: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Asks for it, and says what becomes of the deployment of this name.
pub(super) async fn act(
    document: Document,
    arguments: ServicesArgs,
    sentence: impl FnOnce(&str) -> String,
) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let services = (!arguments.services.is_empty()).then_some(arguments.services);
    let variables = json!({ "id": deployment.id, "services": services });
    let Only(deployment): Only<Deployment> = client.ask(document, variables).await?;
    let sentence = sentence(&deployment.name);
    super::tell(arguments.server.output, &deployment, &sentence)?;
    Ok(Exit::Done)
}
