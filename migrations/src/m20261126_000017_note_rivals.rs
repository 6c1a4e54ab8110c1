//! When another process of a node's name was last heard beside the one that is known: two hosts with
//! one name, or a state directory that was copied, take each other's work.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::timestamp_with_time_zone_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = timestamp_with_time_zone_null("rival_heard_at");
        let add = Table::alter().table("nodes").add_column(column).to_owned();
        manager.alter_table(add).await
    }
}
