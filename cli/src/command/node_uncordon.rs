//! `longshore node uncordon`.

use super::node_target::{self, NodeTargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Node, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Let a node get something new again; a drain ends.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node uncordon node-1")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: NodeTargetArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let node = node_target::find(&client, &arguments.target).await?;
    let node: Only<Node> = client
        .ask(Document::Uncordon, json!({ "id": node.id }))
        .await?;
    let sentence = format!("{} takes deployments again", node.0.name);
    super::tell(arguments.server.output, &node.0, &sentence)?;
    Ok(Exit::Done)
}
