//! Orders to nodes: rows before they are messages.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    integer, string_len, text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null,
    uuid, uuid_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("work_requests")
            .col(uuid("id").primary_key())
            .col(uuid("node_id"))
            .col(uuid("deployment_id"))
            .col(uuid("revision_id"))
            .col(integer("epoch"))
            .col(string_len("kind", 16))
            .col(text("body"))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone_null("published_at"))
            .col(timestamp_with_time_zone_null("accepted_at"))
            .col(timestamp_with_time_zone_null("finished_at"))
            .col(text_null("refused_reason"))
            .col(integer("attempts"))
            .col(uuid_null("claim_token"))
            .col(timestamp_with_time_zone_null("claimed_until"))
            .foreign_key(
                ForeignKey::create()
                    .from("work_requests", "node_id")
                    .to("nodes", "id"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("work_requests", "deployment_id")
                    .to("deployments", "id"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("work_requests", "revision_id")
                    .to("revisions", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        // The publisher looks only at what no node has taken yet: a handful of rows among millions.
        let index = Index::create()
            .name("work_requests_unaccepted")
            .table("work_requests")
            .col("id")
            .and_where(
                Expr::col("accepted_at")
                    .is_null()
                    .and(Expr::col("finished_at").is_null()),
            )
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("work_requests_unfinished")
            .table("work_requests")
            .col("deployment_id")
            .and_where(Expr::col("finished_at").is_null())
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("work_requests_revision")
            .table("work_requests")
            .col("revision_id")
            .to_owned();
        manager.create_index(index).await
    }
}
