//! A worker machine of the pool.

use super::deployment::Label;
use super::{id, int};
use crate::page::list_price;
use async_graphql::{ID, Object, SimpleObject};
use chrono::{DateTime, Utc};
use orchestrator::view::NodeView;
use shared::message::{Capacity, Load};
use shared::status::NodeStatus;

/// A worker machine of the pool, with a work queue of its own.
#[derive(Clone)]
pub(crate) struct Node {
    view: NodeView,
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self { view }
    }
}

/// A worker machine of the pool, with a work queue of its own.
#[Object]
impl Node {
    /// Its identity.
    async fn id(&self) -> ID {
        id(self.view.id)
    }

    /// Its name; its work queue is `work.<name>`.
    async fn name(&self) -> &str {
        self.view.name.as_str()
    }

    /// Whether it takes work.
    async fn status(&self) -> NodeStatus {
        self.view.status
    }

    /// Why not, or what is worth knowing.
    async fn detail(&self) -> Option<&str> {
        self.view.detail.as_deref()
    }

    /// Longshore's version on it.
    async fn version(&self) -> &str {
        &self.view.version
    }

    /// The version of its container engine, when that answers.
    async fn engine_version(&self) -> Option<&str> {
        self.view.engine_version.as_deref()
    }

    /// The host or address that its leased ports are reached by.
    async fn advertise(&self) -> &str {
        &self.view.advertise
    }

    /// What it has.
    async fn capacity(&self) -> NodeCapacity {
        self.view.capacity.into()
    }

    /// What it uses, as of its last heartbeat.
    async fn load(&self) -> NodeLoad {
        self.view.load.into()
    }

    /// What it says of itself, for selection.
    #[graphql(complexity = "list_price(child_complexity)")]
    async fn labels(&self) -> Vec<Label> {
        self.view
            .labels
            .iter()
            .map(|(key, value)| Label::new(key.clone(), value.clone()))
            .collect()
    }

    /// Whether it gets nothing new: no deployment is placed there.
    async fn cordoned(&self) -> bool {
        self.view.cordoned
    }

    /// How it is being emptied; none when nobody asked for that.
    async fn drain(&self) -> Option<NodeDrain> {
        let until = self.view.drain_until?;
        let drain = self.view.drain.as_ref()?;
        Some(NodeDrain {
            until,
            is_over: drain.is_over(),
            left: int(drain.left),
            stays: drain
                .stays
                .iter()
                .map(|(name, why)| Staying {
                    deployment: name.clone(),
                    reason: why.reason().to_owned(),
                })
                .collect(),
        })
    }

    /// When its last heartbeat arrived.
    async fn last_heartbeat_at(&self) -> DateTime<Utc> {
        self.view.last_heartbeat_at
    }
}

/// How a node is being emptied.
#[derive(SimpleObject)]
struct NodeDrain {
    /// Until when what can be moved is moved.
    until: DateTime<Utc>,
    /// Whether nothing more leaves: what is left stays, or the time is over.
    is_over: bool,
    /// How many deployments still run there.
    left: i32,
    /// Those among them that stay.
    stays: Vec<Staying>,
}

/// A deployment that stays on a node that is being emptied.
#[derive(SimpleObject)]
struct Staying {
    /// Its name.
    deployment: String,
    /// Why it stays.
    reason: String,
}

/// What a node has.
#[derive(SimpleObject)]
struct NodeCapacity {
    /// Processors, in thousandths of a core.
    cpu_millis: i32,
    /// Memory, in MiB.
    memory_mib: i32,
    /// Deployment actions at once.
    slots: i32,
}

/// What a node uses.
#[derive(SimpleObject)]
struct NodeLoad {
    /// Memory in use on the machine, in MiB.
    memory_used_mib: i32,
    /// Memory that its deployments declared, in MiB.
    memory_declared_mib: i32,
    /// Processors that its deployments declared, in thousandths of a core.
    cpu_declared_millis: i32,
    /// Containers of deployments that run.
    running: i32,
    /// Deployment actions under way.
    busy_slots: i32,
}

impl From<Capacity> for NodeCapacity {
    fn from(capacity: Capacity) -> Self {
        Self {
            cpu_millis: int(capacity.cpu_millis),
            memory_mib: mib(capacity.memory_bytes),
            slots: int(capacity.slots),
        }
    }
}

impl From<Load> for NodeLoad {
    fn from(load: Load) -> Self {
        Self {
            memory_used_mib: mib(load.memory_used_bytes),
            memory_declared_mib: mib(load.memory_declared_bytes),
            cpu_declared_millis: int(load.cpu_declared_millis),
            running: int(load.running),
            busy_slots: int(load.busy_slots),
        }
    }
}

/// Bytes as MiB: GraphQL's Int ends at 2 GiB of bytes.
fn mib(bytes: u64) -> i32 {
    int(bytes / (1024 * 1024))
}
