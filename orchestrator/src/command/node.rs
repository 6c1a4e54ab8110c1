//! What is asked of nodes.

use super::Commands;
use crate::error::CommandError;
use crate::view::NodeView;
use shared::id::NodeId;
use std::time::Duration;

/// How long a drain may take, in seconds: a week.
const LONGEST_DRAIN: u64 = 7 * 24 * 60 * 60;

pub(super) async fn cordon(commands: &Commands, id: NodeId) -> Result<NodeView, CommandError> {
    commands.store.node_cordon(id).await?;
    told(commands, id).await
}

pub(super) async fn uncordon(commands: &Commands, id: NodeId) -> Result<NodeView, CommandError> {
    commands.store.node_uncordon(id).await?;
    // Before they are looked at: what was to leave stays, and is not deployed anew.
    let settled = commands.store.moves_settle().await?;
    commands.events.steps(settled);
    told(commands, id).await
}

pub(super) async fn drain(
    commands: &Commands,
    id: NodeId,
    deadline_seconds: i32,
) -> Result<NodeView, CommandError> {
    let seconds = u64::try_from(deadline_seconds)
        .ok()
        .filter(|seconds| (1..=LONGEST_DRAIN).contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        CommandError::invalid(
            "deadlineSeconds",
            format_args!("{deadline_seconds} is no time for this: give 1 to {LONGEST_DRAIN}"),
        )
    })?;
    let deadline = Duration::from_secs(seconds);
    commands.store.node_drain(id, deadline).await?;
    told(commands, id).await
}

pub(super) async fn remove(commands: &Commands, id: NodeId) -> Result<NodeView, CommandError> {
    let steps = commands.store.node_remove(id).await?;
    commands.events.steps(steps);
    commands.wake.steward.notify_one();
    told(commands, id).await
}

/// What follows each commit: subscribers hear of it, the loops go on, the caller sees it.
async fn told(commands: &Commands, id: NodeId) -> Result<NodeView, CommandError> {
    commands.events.nodes([id]);
    commands.wake.mover.notify_one();
    commands.wake.dispatcher.notify_one();
    commands
        .queries
        .node_by_id(id)
        .await?
        .ok_or_else(|| CommandError::not_found("node", id))
}
