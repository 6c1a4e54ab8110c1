//! What users name and manage, and the labels they put on it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    integer, string_len, string_len_null, text, text_null, timestamp_with_time_zone,
    timestamp_with_time_zone_null, uuid, uuid_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("deployments")
            .col(uuid("id").primary_key())
            .col(string_len("name", 63))
            // The name while it is taken; null once destroyed, since nulls never collide on either database.
            .col(string_len_null("live_name", 63).unique_key())
            .col(text("source"))
            .col(string_len("desired_state", 16))
            .col(string_len_null("method", 16))
            .col(string_len_null("pinned_node", 63))
            .col(uuid_null("node_id"))
            // No foreign keys on these two: revisions point back here, and the pair is written together.
            .col(uuid_null("active_revision_id"))
            .col(uuid_null("latest_revision_id"))
            .col(integer("latest_number"))
            // How the repository is watched; next_poll_at is null when it is not.
            .col(integer("poll_seconds"))
            .col(timestamp_with_time_zone_null("next_poll_at"))
            .col(timestamp_with_time_zone_null("last_polled_at"))
            .col(string_len_null("last_seen_commit", 64))
            .col(text_null("last_poll_error"))
            .col(uuid_null("poll_claim_token"))
            .col(timestamp_with_time_zone_null("poll_claimed_until"))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("updated_at"))
            .foreign_key(
                ForeignKey::create()
                    .from("deployments", "node_id")
                    .to("nodes", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("deployments_next_poll")
            .table("deployments")
            .col("next_poll_at")
            .and_where(Expr::col("next_poll_at").is_not_null())
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("deployments_node")
            .table("deployments")
            .col("node_id")
            .to_owned();
        manager.create_index(index).await?;
        let table = Table::create()
            .table("deployment_labels")
            .col(uuid("deployment_id"))
            .col(string_len("key", 128))
            .col(text("value"))
            .primary_key(Index::create().col("deployment_id").col("key"))
            .foreign_key(
                ForeignKey::create()
                    .from("deployment_labels", "deployment_id")
                    .to("deployments", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("deployment_labels_key_value")
            .table("deployment_labels")
            .col("key")
            .col("value")
            .to_owned();
        manager.create_index(index).await
    }
}
