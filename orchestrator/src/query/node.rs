//! Reading nodes.

use super::Queries;
use crate::error::CommandError;
use crate::store::StoreError;
use crate::store::entity::node;
use crate::view::NodeView;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use shared::id::NodeId;
use shared::message::{Capacity, Load};
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
    pub async fn node_by_name(&self, name: &str) -> Result<Option<NodeView>, CommandError> {
        let named = node::Entity::find().filter(node::Column::Name.eq(name));
        let row = named
            .one(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(row.map(view))
    }

    /// Nodes by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn nodes_by_ids(
        &self,
        ids: &[NodeId],
    ) -> Result<HashMap<NodeId, NodeView>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let these = node::Entity::find().filter(node::Column::Id.is_in(ids.iter().copied()));
        let rows = these
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(|row| (row.id, view(row))).collect())
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn nodes_all(&self) -> Result<Vec<NodeView>, CommandError> {
        let all = node::Entity::find().order_by_asc(node::Column::Name);
        let rows = all
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(rows.into_iter().map(view).collect())
    }
}

fn view(row: node::Model) -> NodeView {
    let count = |number: i64| u32::try_from(number).unwrap_or_default();
    let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
    NodeView {
        id: row.id,
        name: row.name,
        status: row.status,
        detail: row.detail,
        version: row.version,
        engine_version: row.engine_version,
        advertise: row.advertise,
        capacity: Capacity {
            cpu_millis: count(row.cpu_millis),
            memory_bytes: bytes(row.memory_bytes),
            slots: count(row.slots),
        },
        load: Load {
            memory_used_bytes: bytes(row.memory_used_bytes),
            memory_declared_bytes: bytes(row.memory_declared_bytes),
            cpu_declared_millis: count(row.cpu_declared_millis),
            running: count(row.running),
            busy_slots: count(row.busy_slots),
        },
        labels: row
            .labels
            .0
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        last_heartbeat_at: row.last_heartbeat_at,
    }
}
