//! Host ports held by deployments.

use crate::store::column::{LeaseState, Time};
use sea_orm::entity::prelude::*;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::name::ServiceName;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "port_leases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub node_id: NodeId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub port: i32,
    pub deployment_id: DeploymentId,
    pub revision_id: Option<RevisionId>,
    pub state: LeaseState,
    pub service: Option<ServiceName>,
    pub container_port: Option<i32>,
    pub created_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
