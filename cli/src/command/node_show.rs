//! `longshore node show`.

use super::node_target::{self, NodeTargetArgs};
use crate::client::access::ServerArgs;
use crate::client::model::Node;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use std::io;

/// Show one node: whether it takes work and why not, what it has, how far its draining is.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node show node-1")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: NodeTargetArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let node = node_target::find(&client, &arguments.target).await?;
    match arguments.server.output {
        Format::Json => output::print_json(&node)?,
        Format::Text => describe(&node)?,
    }
    Ok(Exit::Done)
}

fn describe(node: &Node) -> io::Result<()> {
    let field =
        |name: &str, value: &str| output::print(&format!("{name:10} {}", output::line(value)));
    field("name", &node.name)?;
    field("id", &node.id)?;
    field("status", &node.status.to_string())?;
    for line in node.detail.as_deref().into_iter().flat_map(output::lines) {
        output::print(&format!("{:10} {line}", ""))?;
    }
    if let Some(drain) = &node.drain {
        for staying in &drain.stays {
            field(
                "stays",
                &format!("{}: {}", staying.deployment, staying.reason),
            )?;
        }
    }
    field("reached by", &node.advertise)?;
    let processors = f64::from(node.capacity.cpu_millis) / 1000.0;
    field("cpus", &processors.to_string())?;
    let (used, all) = (node.load.memory_used_mib, node.capacity.memory_mib);
    field("memory", &format!("{used} of {all} MiB"))?;
    field("running", &format!("{} containers", node.load.running))?;
    let (busy, slots) = (node.load.busy_slots, node.capacity.slots);
    field("actions", &format!("{busy} of {slots} at once"))?;
    for label in &node.labels {
        field("label", &format!("{}={}", label.key, label.value))?;
    }
    field("version", &node.version)?;
    field("engine", node.engine_version.as_deref().unwrap_or("none"))?;
    let heard = node.last_heartbeat_at;
    field(
        "last heard",
        &heard.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )
}
