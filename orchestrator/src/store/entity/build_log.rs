//! What is kept of a build log.

use crate::store::column::Time;
use sea_orm::entity::prelude::*;
use shared::id::RevisionId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "build_logs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision_id: RevisionId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub epoch: i32,
    pub lines: i64,
    pub bytes: i64,
    pub ended_at_line: Option<i64>,
    pub cut: bool,
    pub updated_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
