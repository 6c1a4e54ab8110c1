//! Reports that arrived before their predecessors.

use crate::store::column::{JsonText, Time};
use sea_orm::entity::prelude::*;
use shared::id::RevisionId;
use shared::message::StatusReport;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "parked_reports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision_id: RevisionId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub epoch: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub report_seq: i32,
    pub body: JsonText<StatusReport>,
    pub parked_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
