//! Machines of the fleet.

use crate::store::column::{JsonText, Time};
use sea_orm::entity::prelude::*;
use shared::id::NodeId;
use shared::name::{LabelKey, LabelValue, NodeName};
use shared::status::NodeStatus;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "nodes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: NodeId,
    pub name: NodeName,
    pub status: NodeStatus,
    pub detail: Option<String>,
    pub version: String,
    pub engine_version: Option<String>,
    pub advertise: String,
    pub labels: JsonText<BTreeMap<LabelKey, LabelValue>>,
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    pub slots: i64,
    pub memory_used_bytes: i64,
    pub memory_declared_bytes: i64,
    pub cpu_declared_millis: i64,
    pub running: i64,
    pub busy_slots: i64,
    pub port_cursor: i32,
    pub cordoned: bool,
    pub drain_until: Option<Time>,
    pub given: i64,
    pub must_reconcile: bool,
    pub assignments_due_at: Option<Time>,
    pub removed_at: Option<Time>,
    pub rival_heard_at: Option<Time>,
    pub started_at: Time,
    pub last_heartbeat_at: Time,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
