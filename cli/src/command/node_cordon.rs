//! `longshore node cordon`.

use super::node_target::{self, NodeArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Let a node get nothing new; what runs there goes on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node cordon node-1")]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} gets nothing new");
    node_target::act(Document::Cordon, arguments.node, sentence).await
}
