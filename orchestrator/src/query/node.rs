//! Reading nodes.

use super::Queries;
use crate::error::CommandError;
use crate::view::NodeView;
use shared::id::NodeId;
use std::collections::HashMap;

impl Queries {
    /// A node by its id.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn node_by_id(&self, id: NodeId) -> Result<Option<NodeView>, CommandError> {
        let mut found = self.nodes_by_ids(&[id]).await?;
        Ok(found.remove(&id))
    }

    /// A node by its name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn node_by_name(&self, _name: &str) -> Result<Option<NodeView>, CommandError> {
        Ok(None)
    }

    /// Nodes by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn nodes_by_ids(&self, _ids: &[NodeId]) -> Result<HashMap<NodeId, NodeView>, CommandError> {
        Ok(HashMap::new())
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn nodes_all(&self) -> Result<Vec<NodeView>, CommandError> {
        Ok(Vec::new())
    }
}
