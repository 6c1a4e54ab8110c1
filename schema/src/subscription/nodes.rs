//! Following nodes.

use super::Answers;
use crate::error::ApiError;
use crate::object::Node;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use orchestrator::watch::Lagged;
use orchestrator::{Queries, Watch};
use shared::id::NodeId;
use std::collections::VecDeque;

/// Follows all nodes: each as it is now, then each whenever its row changed.
///
/// # Errors
/// `UNAVAILABLE`.
pub(super) async fn follow(watch: &Watch, queries: Queries) -> Result<Answers<Node>, ApiError> {
    // Listening comes before reading, so that no change falls in between.
    let changes = watch.node_changes().boxed();
    let mut feed = Feed {
        changes,
        queries,
        waiting: VecDeque::new(),
    };
    feed.all().await?;
    let nodes = stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match feed.next().await {
            Some(Ok(node)) => Some((Ok(node), Some(feed))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    Ok(nodes.boxed())
}

struct Feed {
    changes: BoxStream<'static, Result<NodeId, Lagged>>,
    queries: Queries,
    waiting: VecDeque<Node>,
}

impl Feed {
    async fn next(&mut self) -> Option<Result<Node, ApiError>> {
        loop {
            if let Some(node) = self.waiting.pop_front() {
                return Some(Ok(node));
            }
            let read = match self.changes.next().await? {
                Ok(node) => self.one(node).await,
                // What was missed is told as it is now: a node is a state, not a history.
                Err(Lagged { .. }) => self.all().await,
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
    }

    async fn one(&mut self, node: NodeId) -> Result<(), ApiError> {
        self.waiting
            .extend(self.queries.node_by_id(node).await?.map(Node::from));
        Ok(())
    }

    async fn all(&mut self) -> Result<(), ApiError> {
        self.waiting
            .extend(self.queries.nodes_all().await?.into_iter().map(Node::from));
        Ok(())
    }
}
