//! `longshore deployment cancel`: gives up the newest revision while it is on its way.

use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Only, Revision};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde_json::json;

/// Give up the newest revision while it is still on its way.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment cancel hello")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let Some(revision) = deployment.latest_revision else {
        return Err(Failure::input(format!(
            "{} has no revision to cancel",
            deployment.name
        )));
    };
    let revision: Only<Revision> = client
        .ask(Document::Cancel, json!({ "id": revision.id }))
        .await?;
    match arguments.server.output {
        Format::Text => output::print(&format!(
            "revision {} of {} is being cancelled",
            revision.0.number, deployment.name
        ))?,
        Format::Json => output::print_json(&revision.0)?,
    }
    Ok(Exit::Done)
}
