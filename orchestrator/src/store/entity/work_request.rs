//! Orders to nodes.

use crate::store::column::{JsonText, Time, WorkKind};
use sea_orm::entity::prelude::*;
use shared::id::{DeploymentId, NodeId, RevisionId, WorkId};
use shared::message::WorkRequest;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "work_requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WorkId,
    pub node_id: NodeId,
    pub deployment_id: DeploymentId,
    pub revision_id: RevisionId,
    pub epoch: i32,
    pub kind: WorkKind,
    pub body: JsonText<WorkRequest>,
    pub created_at: Time,
    pub published_at: Option<Time>,
    pub accepted_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub refused_reason: Option<String>,
    pub attempts: i32,
    pub claim_token: Option<Uuid>,
    pub claimed_until: Option<Time>,
    pub leased_until: Option<Time>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
