//! Messages that nobody could handle, kept for people.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, boolean, integer_null, string_len, string_len_null, text,
    timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("dead_letters")
            .col(uuid("id").primary_key())
            // Tells the message from every other one: it is recorded once.
            .col(string_len("message", 128).unique_key())
            .col(string_len("queue", 256))
            .col(text("reason"))
            .col(string_len_null("sender", 256))
            .col(integer_null("deliveries"))
            // SHA-256 of the body: by it a message is known again that was put back once.
            .col(string_len("digest", 64))
            // Of the message as it came, in bytes.
            .col(big_integer("size"))
            // The body as it came; else in Base64.
            .col(boolean("is_text"))
            // Not only its beginning.
            .col(boolean("is_whole"))
            .col(timestamp_with_time_zone("died_at"))
            .col(timestamp_with_time_zone("recorded_at"))
            // Put back into its queue: not a dead letter for now, kept to know it again.
            .col(timestamp_with_time_zone_null("returned_at"))
            // Last, so that SQLite can read the others without it.
            .col(text("body"))
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("dead_letters_returned")
            .table("dead_letters")
            .col("digest")
            .and_where(Expr::col("returned_at").is_not_null())
            .to_owned();
        manager.create_index(index).await
    }
}
