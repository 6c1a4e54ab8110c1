//! The versions of deployments and where each stands.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    boolean, integer, string_len, string_len_null, text, text_null, timestamp_with_time_zone,
    timestamp_with_time_zone_null, uuid, uuid_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("revisions")
            .col(uuid("id").primary_key())
            .col(uuid("deployment_id"))
            .col(integer("number"))
            .col(string_len("status", 16))
            .col(string_len_null("failure_reason", 32))
            .col(text_null("status_detail"))
            .col(string_len("cause", 16))
            // What it was made from, as it was then: the deployment may be pointed elsewhere later.
            .col(text("source"))
            .col(string_len_null("method", 16))
            // The very commit it is about, when a watcher or a rollback asked for one.
            .col(string_len_null("wanted_commit", 64))
            // The commit or digest that it turned out to be.
            .col(string_len_null("source_version", 128))
            .col(string_len_null("content_hash", 64))
            .col(text_null("spec"))
            // The attempt; what comes from an older one is ignored.
            .col(integer("epoch"))
            .col(integer("last_report_seq"))
            .col(integer("last_event_seq"))
            .col(uuid_null("node_id"))
            // When it was asked to give up, and what it is then: CANCELLED by a user, SUPERSEDED by a newer one.
            .col(timestamp_with_time_zone_null("cancel_requested_at"))
            .col(string_len_null("cancel_into", 16))
            // Whether it has been RUNNING: what a rollback may go back to.
            .col(boolean("was_running"))
            .col(uuid_null("claimed_by"))
            .col(uuid_null("claim_token"))
            .col(timestamp_with_time_zone_null("claimed_until"))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("updated_at"))
            .foreign_key(
                ForeignKey::create()
                    .from("revisions", "deployment_id")
                    .to("deployments", "id"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("revisions", "node_id")
                    .to("nodes", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("revisions_deployment_number")
            .table("revisions")
            .col("deployment_id")
            .col("number")
            .unique()
            .to_owned();
        manager.create_index(index).await?;
        // The loops look for what stands somewhere, oldest first.
        let index = Index::create()
            .name("revisions_status")
            .table("revisions")
            .col("status")
            .col("id")
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("revisions_node_status")
            .table("revisions")
            .col("node_id")
            .col("status")
            .to_owned();
        manager.create_index(index).await
    }
}
