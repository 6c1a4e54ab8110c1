//! `longshore deployment rollback`: back to what worked, as a revision of its own.

use super::target::{self, TargetArgs};
use super::wait::{self, WaitArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Go back to the commit of an earlier revision.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment rollback hello --to-revision 3 --wait")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// The number of the revision; the last good one before the active when absent.
    #[arg(long, value_name = "NUMBER")]
    to_revision: Option<i32>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let variables = json!({ "id": deployment.id, "toRevision": arguments.to_revision });
    let deployment: Only<Deployment> = client.ask(Document::Rollback, variables).await?;
    let sentence = format!("{} is going back", deployment.0.name);
    wait::started(
        &client,
        arguments.server.output,
        &arguments.wait,
        &deployment.0,
        &sentence,
    )
    .await
}
