//! `longshore deployment redeploy`: a new revision of the newest commit.

use super::source;
use super::target::{self, TargetArgs};
use super::wait::{self, WaitArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Deploy the newest commit again, or another branch, tag or commit.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment redeploy hello --ref v2 --wait")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// The branch, tag or commit that becomes the deployment's, HEAD for the server's default branch; the
    /// same as before when absent.
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let variables = json!({ "id": deployment.id, "ref": arguments.git_ref });
    let follows = source::follows(arguments.git_ref.as_deref(), &deployment);
    let deployment: Only<Deployment> = client.ask(Document::Redeploy, variables).await?;
    let sentence = format!("{} is being deployed again{follows}", deployment.0.name);
    wait::started(
        &client,
        arguments.server.output,
        &arguments.wait,
        &deployment.0,
        &sentence,
    )
    .await
}
