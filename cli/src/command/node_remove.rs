//! `longshore node remove`.

use super::node_target::{self, NodeTargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Node, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Take a node out of the fleet that is LOST, with what only it had.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node remove node-1

Stop the node process first; after 20 seconds the node is LOST. To keep what runs there, drain it before.
A node process of the same name that starts again comes back by itself.")]
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
        .ask(Document::RemoveNode, json!({ "id": node.id }))
        .await?;
    let sentence = format!("{} is removed", node.0.name);
    super::tell(arguments.server.output, &node.0, &sentence)?;
    Ok(Exit::Done)
}
