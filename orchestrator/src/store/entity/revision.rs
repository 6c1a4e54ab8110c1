//! Versions of deployments.

use crate::store::column::{JsonText, Time};
use sea_orm::entity::prelude::*;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::source::Source;
use shared::spec::DeploymentSpec;
use shared::status::{ApplicationStatus, FailureReason, Method, RevisionCause};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "revisions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RevisionId,
    pub deployment_id: DeploymentId,
    pub number: i32,
    pub status: ApplicationStatus,
    pub failure_reason: Option<FailureReason>,
    pub status_detail: Option<String>,
    pub cause: RevisionCause,
    pub source: JsonText<Source>,
    pub method: Option<Method>,
    pub wanted_commit: Option<String>,
    pub source_version: Option<String>,
    pub content_hash: Option<String>,
    pub spec: Option<JsonText<DeploymentSpec>>,
    pub epoch: i32,
    pub last_report_seq: i32,
    pub last_event_seq: i32,
    pub node_id: Option<NodeId>,
    pub cancel_requested_at: Option<Time>,
    pub cancel_into: Option<ApplicationStatus>,
    pub was_running: bool,
    pub attempts: i32,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
