//! Host ports that a node may choose from.

use crate::store::column::{JsonText, Time};
use sea_orm::entity::prelude::*;
use shared::id::{NodeId, RevisionId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "port_offers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision_id: RevisionId,
    pub node_id: NodeId,
    pub ports: JsonText<Vec<u16>>,
    pub low: i32,
    pub wide: bool,
    pub created_at: Time,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
