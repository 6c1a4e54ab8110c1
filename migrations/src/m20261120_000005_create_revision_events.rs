//! Each step of each revision, and reports that arrived before their predecessors.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    integer, integer_null, string_len, string_len_null, text, text_null, timestamp_with_time_zone,
    uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("revision_events")
            .col(uuid("revision_id"))
            .col(integer("seq"))
            .col(uuid("deployment_id"))
            .col(integer("revision"))
            .col(integer("epoch"))
            // The node's own number of the report that made the step; null for a step of the orchestrator.
            .col(integer_null("report_seq"))
            .col(string_len("status", 16))
            .col(string_len_null("failure_reason", 32))
            .col(text_null("detail"))
            .col(timestamp_with_time_zone("at"))
            .primary_key(Index::create().col("revision_id").col("seq"))
            .foreign_key(
                ForeignKey::create()
                    .from("revision_events", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        // A report is applied once, whatever else goes wrong.
        let index = Index::create()
            .name("revision_events_report")
            .table("revision_events")
            .col("revision_id")
            .col("epoch")
            .col("report_seq")
            .unique()
            .to_owned();
        manager.create_index(index).await?;
        let table = Table::create()
            .table("parked_reports")
            .col(uuid("revision_id"))
            .col(integer("epoch"))
            .col(integer("report_seq"))
            .col(text("body"))
            .col(timestamp_with_time_zone("parked_at"))
            .primary_key(
                Index::create()
                    .col("revision_id")
                    .col("epoch")
                    .col("report_seq"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("parked_reports", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("parked_reports_parked_at")
            .table("parked_reports")
            .col("parked_at")
            .to_owned();
        manager.create_index(index).await
    }
}
