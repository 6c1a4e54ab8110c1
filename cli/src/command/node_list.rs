//! `longshore node list`.

use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Node, Only};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde_json::json;

/// List the nodes of the fleet.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node list")]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let nodes: Only<Vec<Node>> = client.ask(Document::Nodes, json!({})).await?;
    if arguments.server.output == Format::Json {
        output::print_json(&nodes.0)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 6]> = nodes.0.into_iter().map(row).collect();
    output::print_table(
        ["NAME", "STATUS", "RUNNING", "CPUS", "MEMORY", "DETAIL"],
        &rows,
    )?;
    Ok(Exit::Done)
}

fn row(node: Node) -> [String; 6] {
    let cpus = f64::from(node.capacity.cpu_millis) / 1000.0;
    let memory = format!(
        "{} of {} MiB",
        node.load.memory_used_mib, node.capacity.memory_mib
    );
    let detail = node.detail.unwrap_or_default();
    [
        node.name,
        node.status.to_string(),
        node.load.running.to_string(),
        cpus.to_string(),
        memory,
        detail,
    ]
}
