//! What users name and manage.

use crate::store::column::{JsonText, Time};
use sea_orm::entity::prelude::*;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::name::{DeploymentName, NodeName};
use shared::source::Source;
use shared::status::{DesiredState, Method};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deployments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeploymentId,
    pub name: DeploymentName,
    pub live_name: Option<String>,
    pub source: JsonText<Source>,
    pub desired_state: DesiredState,
    pub method: Option<Method>,
    pub pinned_node: Option<NodeName>,
    pub node_id: Option<NodeId>,
    pub active_revision_id: Option<RevisionId>,
    pub latest_revision_id: Option<RevisionId>,
    pub latest_number: i32,
    pub poll_seconds: i32,
    pub next_poll_at: Option<Time>,
    pub last_polled_at: Option<Time>,
    pub last_seen_commit: Option<String>,
    pub last_poll_error: Option<String>,
    pub poll_claim_token: Option<Uuid>,
    pub poll_claimed_until: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
