//! Making a deployment.

use super::{Commands, CreateDeployment, input};
use crate::error::CommandError;
use crate::store::{Created, NewDeployment, watching};
use crate::view::{DeploymentView, GitWatchView};
use shared::id::DeploymentId;
use shared::message::StatusEvent;
use shared::name::{DeploymentName, NodeName};
use shared::source::Source;
use shared::status::{DesiredState, RevisionStanding, derive_deployment_status};

pub(super) async fn create(
    commands: &Commands,
    input: CreateDeployment,
) -> Result<DeploymentView, CommandError> {
    let new = vetted(commands, input).await?;
    let name = new.name.clone();
    match commands.creations.submit(new.clone()).await? {
        Created::Made { id, step } => {
            let view = made(new, id, &step);
            commands.announce_requested(step, &view);
            Ok(view)
        }
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

/// A deployment that was just made: nobody can have changed it yet, so it is not read again.
fn made(new: NewDeployment, id: DeploymentId, step: &StatusEvent) -> DeploymentView {
    let git_watch = matches!(new.source, Source::GitApp(_)).then(|| GitWatchView {
        next_poll_at: watching(&new.source, step.at).1,
        ..GitWatchView::default()
    });
    let desired_state = DesiredState::Running;
    let standing = RevisionStanding {
        number: step.revision,
        status: step.status,
        failure_reason: None,
        detail: None,
    };
    DeploymentView {
        id,
        name: new.name,
        source: new.source,
        desired_state,
        method: new.method,
        pinned_node: new.pinned_node,
        node_id: None,
        active_revision_id: None,
        latest_revision_id: Some(step.revision_id),
        status: derive_deployment_status(desired_state, None, Some(&standing)),
        url: None,
        created_at: step.at,
        updated_at: step.at,
        git_watch,
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
