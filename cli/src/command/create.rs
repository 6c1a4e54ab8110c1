//! `longshore deployment create`: creates a deployment; its name must be free.

use super::source::SourceArgs;
use super::wait::{self, WaitArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Create a deployment; its name must be free.
#[derive(Clone, Debug, clap::Args)]
#[command(
    override_usage = "longshore deployment create [OPTIONS] <NAME> (--git <URL> | --image <IMAGE>)",
    after_help = "\
Example:
  longshore deployment create hello --git https://git.example/team/hello.git --label team=web
  longshore deployment create cache --image redis:7 --port 6379"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let input = arguments.source.input()?;
    let client = super::connect(&arguments.server)?;
    let created: Only<Deployment> = client
        .ask(Document::Create, json!({ "input": input }))
        .await?;
    let sentence = format!("{} is being deployed", created.0.name);
    wait::started(
        &client,
        arguments.server.output,
        &arguments.wait,
        &created.0,
        &sentence,
    )
    .await
}
