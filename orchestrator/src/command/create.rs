//! Making a deployment.

use super::{Commands, CreateDeployment, input};
use crate::error::CommandError;
use crate::store::{Created, NewDeployment};
use crate::view::DeploymentView;
use shared::name::{DeploymentName, NodeName};

pub(super) async fn create(
    commands: &Commands,
    input: CreateDeployment,
) -> Result<DeploymentView, CommandError> {
    let new = vetted(commands, input).await?;
    let name = new.name.clone();
    match commands.creations.submit(new).await? {
        Created::Made { id, step } => commands.recorded(id, vec![step]).await,
        Created::NameTaken { by } => {
            let by = by
                .map(|id| format!(" by deployment {id}"))
                .unwrap_or_default();
            Err(CommandError::conflict(format!(
                "the name `{name}` is taken{by}: choose another, or destroy that one first"
            )))
        }
    }
}

async fn vetted(
    commands: &Commands,
    input: CreateDeployment,
) -> Result<NewDeployment, CommandError> {
    let name: DeploymentName = input::parse("name", &input.name)?;
    let source = input::source(&input.source, commands.git)?;
    let labels = input::labels(&input.labels)?;
    let pinned_node = match &input.node {
        None => None,
        Some(node) => Some(known_node(commands, node).await?),
    };
    Ok(NewDeployment {
        name,
        source,
        labels,
        pinned_node,
        method: input.method,
    })
}

/// Pinning to a node that does not exist would wait for ever for what is most likely a slip of the pen.
async fn known_node(commands: &Commands, text: &str) -> Result<NodeName, CommandError> {
    let name: NodeName = input::parse("node", text)?;
    let nodes = commands.queries.nodes_all().await?;
    if nodes.iter().any(|node| node.name == name) {
        return Ok(name);
    }
    let known: Vec<&str> = nodes
        .iter()
        .take(10)
        .map(|node| node.name.as_str())
        .collect();
    let rule = match (known.len(), nodes.len()) {
        (0, _) => "no node has joined yet".to_owned(),
        (shown, all) if shown < all => {
            format!("there are {} and {} more", known.join(", "), all - shown)
        }
        _ => format!("there are {}", known.join(", ")),
    };
    Err(CommandError::invalid(
        "node",
        format_args!("there is no node `{name}`: {rule}"),
    ))
}
