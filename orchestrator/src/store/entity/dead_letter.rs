//! Messages that nobody could handle.

use crate::store::column::Time;
use sea_orm::entity::prelude::*;
use shared::id::DeadLetterId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letters")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeadLetterId,
    pub message: String,
    pub queue: String,
    pub reason: String,
    pub sender: Option<String>,
    pub deliveries: Option<i32>,
    pub digest: String,
    pub size: i64,
    pub is_text: bool,
    pub is_whole: bool,
    pub died_at: Time,
    pub recorded_at: Time,
    pub returned_at: Option<Time>,
    pub body: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
