//! Build logs: a header with what is kept, and the lines.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, string_len, text, timestamp_with_time_zone,
    uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("build_logs")
            .col(uuid("revision_id"))
            .col(integer("epoch"))
            // What is stored, to keep it within its limits without counting.
            .col(big_integer("lines"))
            .col(big_integer("bytes"))
            // The number of lines the log had in all, once its end is known.
            .col(big_integer_null("ended_at_line"))
            // Whether lines were dropped because the log was too long.
            .col(boolean("cut"))
            .col(timestamp_with_time_zone("updated_at"))
            .primary_key(Index::create().col("revision_id").col("epoch"))
            .foreign_key(
                ForeignKey::create()
                    .from("build_logs", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let table = Table::create()
            .table("build_log_lines")
            .col(uuid("revision_id"))
            .col(integer("epoch"))
            .col(big_integer("seq"))
            .col(timestamp_with_time_zone("at"))
            .col(string_len("stream", 8))
            .col(text("text"))
            .primary_key(Index::create().col("revision_id").col("epoch").col("seq"))
            .foreign_key(
                ForeignKey::create()
                    .from("build_log_lines", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await
    }
}
