//! `longshore node drain`.

use super::node_target::{self, NodeTargetArgs};
use super::wait::read_duration;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{DeploymentPage, Node, Only};
use crate::client::{Client, ClientError, SocketEvent};
use crate::exit::{Exit, Failure};
use crate::output;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Empty a node: it gets nothing new, and what can be elsewhere is moved, started there before it is
/// stopped here. What is pinned to the node or has local volumes stays.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore node drain node-1 --deadline 30m --wait

Afterwards the node stays cordoned: `longshore node uncordon` ends that, and a drain under way.
With --wait it exits with 5 when the deadline came before everything was moved.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: NodeTargetArgs,
    /// For how long things are moved.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = read_duration)]
    deadline: Duration,
    /// Wait until nothing more can be moved, and say how it goes.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// How long nothing may be heard before the node is looked at again: a deadline tells nobody by itself,
/// and so does a connection that is lost.
const QUIET: Duration = Duration::from_secs(10);
/// How many deployments are named that are still on the node.
const LISTED: u32 = 20;
/// The pause before connecting again.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let node = node_target::find(&client, &arguments.target).await?;
    let variables = json!({ "id": node.id, "deadlineSeconds": arguments.deadline.as_secs() });
    let mut node = client
        .ask::<Only<Node>>(Document::Drain, variables)
        .await?
        .0;
    if arguments.wait {
        node = until_over(&client, node).await?;
    }
    let detail = node.detail.as_deref().unwrap_or("it is being drained");
    let sentence = format!("{}: {}", node.name, output::line(detail));
    super::tell(arguments.server.output, &node, &sentence)?;
    let is_short = |node: &Node| {
        let drain = node.drain.as_ref();
        drain.is_some_and(|drain| drain.left as usize > drain.stays.len())
    };
    if arguments.wait && is_short(&node) {
        return Ok(Exit::TimedOut);
    }
    Ok(Exit::Done)
}

/// Follows a drain until nothing more leaves the node, or somebody called it off.
async fn until_over(client: &Client, node: Node) -> Result<Node, Failure> {
    let mut last = String::new();
    let mut left = BTreeMap::new();
    loop {
        match follow(client, &node.id, &mut last, &mut left).await {
            Ok(node) => return Ok(node),
            Err(error) if error.is_transient() => {
                output::note(&format!("{error}; connecting again"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What stays on the node for now, and why, by what is known of each deployment; once for each reason.
async fn say_what_is_left(
    client: &Client,
    node: &Node,
    left: &mut BTreeMap<String, String>,
) -> Result<(), ClientError> {
    let stays = node.drain.iter().flat_map(|drain| &drain.stays);
    let stays: Vec<&str> = stays.map(|it| it.deployment.as_str()).collect();
    let variables = json!({ "filter": { "node": node.name }, "first": LISTED });
    let Only(page): Only<DeploymentPage> = client.ask(Document::Deployments, variables).await?;
    for deployment in page.nodes {
        if stays.contains(&deployment.name.as_str()) {
            continue;
        }
        let detail = deployment.status_detail.unwrap_or_default();
        let why = detail.lines().next().unwrap_or_default().to_owned();
        if left.get(&deployment.name) != Some(&why) {
            output::note(&format!(
                "  {} is still there: {}",
                output::line(&deployment.name),
                output::line(&why)
            ));
            left.insert(deployment.name, why);
        }
    }
    Ok(())
}

async fn follow(
    client: &Client,
    id: &str,
    last: &mut String,
    left: &mut BTreeMap<String, String>,
) -> Result<Node, ClientError> {
    let mut socket = client.socket().await?;
    socket.subscribe(Document::NodeStatus, json!({})).await?;
    loop {
        let node = match timeout(QUIET, socket.next()).await {
            Ok(event) => match event? {
                SocketEvent::Next { data, .. } => {
                    serde_json::from_value::<Only<Node>>(data)
                        .map_err(ClientError::NotUnderstood)?
                        .0
                }
                SocketEvent::Complete { .. } => {
                    return Err(ClientError::Lost {
                        url: client.address(),
                        reason: "the server ended the subscription".to_owned(),
                    });
                }
            },
            Err(_) => {
                let node = client
                    .ask::<Only<Node>>(Document::NodeById, json!({ "id": id }))
                    .await?
                    .0;
                say_what_is_left(client, &node, left).await?;
                node
            }
        };
        if node.id != id {
            continue;
        }
        let detail = node.detail.clone().unwrap_or_default();
        if detail != *last {
            output::note(&format!("{}: {}", node.name, output::line(&detail)));
            *last = detail;
        }
        if node.drain.as_ref().is_none_or(|drain| drain.is_over) {
            return Ok(node);
        }
    }
}
