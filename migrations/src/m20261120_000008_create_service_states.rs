//! How each service of a revision is, as its node last said.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, string_len, text, text_null, timestamp_with_time_zone, uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("service_states")
            .col(uuid("revision_id"))
            .col(string_len("service", 63))
            .col(string_len("status", 16))
            .col(text("image"))
            .col(text_null("container"))
            .col(big_integer("restarts"))
            .col(timestamp_with_time_zone("updated_at"))
            .primary_key(Index::create().col("revision_id").col("service"))
            .foreign_key(
                ForeignKey::create()
                    .from("service_states", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await
    }
}
