//! Services of revisions.

use crate::store::column::Time;
use sea_orm::entity::prelude::*;
use shared::id::RevisionId;
use shared::status::ApplicationStatus;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "service_states")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision_id: RevisionId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub service: String,
    pub status: ApplicationStatus,
    pub image: String,
    pub container: Option<String>,
    pub restarts: i64,
    pub updated_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
