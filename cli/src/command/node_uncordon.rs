//! `longshore node uncordon`.

use super::node_target::{self, NodeArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Let a node get something new again; a drain ends.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node uncordon node-1")]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} takes deployments again");
    node_target::act(Document::Uncordon, arguments.node, sentence).await
}
