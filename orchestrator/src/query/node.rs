//! Reading nodes.

use super::Queries;
use crate::draining::{Cordon, Drain, words};
use crate::error::CommandError;
use crate::moving::{Tenant, movable};
use crate::store::column::{JsonText, now};
use crate::store::entity::node;
use crate::store::{Store, StoreError};
use crate::view::NodeView;
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, Select};
use shared::id::NodeId;
use shared::message::{Capacity, Load};
use shared::spec::DeploymentSpec;
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
        let named = in_fleet().filter(node::Column::Name.eq(name));
        Ok(self.views(named).await?.pop())
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
        let views = self.views(these).await?;
        Ok(views.into_iter().map(|view| (view.id, view)).collect())
    }

    /// All nodes of the fleet, by name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn nodes_all(&self) -> Result<Vec<NodeView>, CommandError> {
        self.views(in_fleet().order_by_asc(node::Column::Name))
            .await
    }

    async fn views(&self, select: Select<node::Entity>) -> Result<Vec<NodeView>, CommandError> {
        let rows = select
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let mut drains = drains(&self.store, &rows).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let drain = drains.remove(&row.id);
                view(row, drain)
            })
            .collect())
    }
}

/// Those that were not removed.
fn in_fleet() -> Select<node::Entity> {
    node::Entity::find().filter(node::Column::RemovedAt.is_null())
}

/// Something of a deployment that runs on a node which is being drained, or was.
#[derive(FromQueryResult)]
struct TenantRow {
    node_id: NodeId,
    is_pinned: bool,
    name: String,
    source_version: Option<String>,
    spec: Option<JsonText<DeploymentSpec>>,
}

/// How the nodes among these stand that are being drained, or were.
async fn drains(store: &Store, rows: &[node::Model]) -> Result<HashMap<NodeId, Drain>, StoreError> {
    let at = now();
    let mut drains: HashMap<NodeId, Drain> = rows
        .iter()
        .filter_map(|row| {
            let remaining = (row.drain_until? - at).to_std().ok();
            let drain = Drain {
                remaining: remaining.filter(|time| !time.is_zero()),
                ..Drain::default()
            };
            Some((row.id, drain))
        })
        .collect();
    if drains.is_empty() {
        return Ok(drains);
    }
    let tenants: Vec<TenantRow> = store
        .sql(
            "SELECT r.node_id, COALESCE(d.pinned_node = n.name, FALSE) AS is_pinned, d.name, r.source_version, r.spec \
             FROM revisions r JOIN deployments d ON d.id = r.deployment_id JOIN nodes n ON n.id = r.node_id \
             WHERE r.is_placed AND r.status IN ('STARTING', 'VERIFYING', 'RUNNING', 'DEGRADED') AND d.desired_state = 'RUNNING' \
             AND (d.active_revision_id = r.id OR d.active_revision_id IS NULL) AND r.node_id",
        )
        .one_of(drains.keys().copied())
        .push(" ORDER BY d.name")
        .all(store.reader())
        .await?;
    for row in tenants {
        if let Some(drain) = drains.get_mut(&row.node_id) {
            drain.left += 1;
            let tenant = Tenant {
                pinned: row.is_pinned,
                volumes: row.spec.is_some_and(|spec| spec.0.has_volumes()),
                version: row.source_version.is_some(),
            };
            if let Err(stays) = movable(tenant) {
                drain.stays.push((row.name, stays));
            }
        }
    }
    Ok(drains)
}

fn view(row: node::Model, drain: Option<Drain>) -> NodeView {
    let count = |number: i64| u32::try_from(number).unwrap_or_default();
    let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
    let cordon = Cordon { drain };
    let detail = if row.cordoned {
        Some(words(&cordon, row.detail.as_deref()))
    } else {
        row.detail
    };
    NodeView {
        cordoned: row.cordoned,
        drain_until: row.drain_until,
        drain: cordon.drain,
        id: row.id,
        name: row.name,
        status: row.status,
        detail,
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
