//! Recorded steps of revisions.

use crate::store::column::Time;
use sea_orm::entity::prelude::*;
use shared::id::{DeploymentId, RevisionId};
use shared::status::{ApplicationStatus, FailureReason};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "revision_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision_id: RevisionId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i32,
    pub deployment_id: DeploymentId,
    pub revision: i32,
    pub epoch: i32,
    pub report_seq: Option<i32>,
    pub status: ApplicationStatus,
    pub failure_reason: Option<FailureReason>,
    pub detail: Option<String>,
    pub at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
