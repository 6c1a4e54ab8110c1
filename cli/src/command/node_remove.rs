//! `longshore node remove`.

use super::node_target::{self, NodeArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Take a node out of the fleet that is LOST, with what only it had.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node remove node-1

Stop the node process first; after 20 seconds the node is LOST. To keep what runs there, drain it before.
A node process of the same name that starts again comes back by itself.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} is removed");
    node_target::act(Document::RemoveNode, arguments.node, sentence).await
}
