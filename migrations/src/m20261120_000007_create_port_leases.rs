//! Host ports held by deployments, until they are destroyed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    integer, integer_null, string_len, string_len_null, timestamp_with_time_zone, uuid, uuid_null,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("port_leases")
            .col(uuid("node_id"))
            .col(integer("port"))
            .col(uuid("deployment_id"))
            // The revision whose node may choose it, while it is RESERVED.
            .col(uuid_null("revision_id"))
            // RESERVED while a node may choose it, HELD once it is in use.
            .col(string_len("state", 16))
            .col(string_len_null("service", 63))
            .col(integer_null("container_port"))
            .col(timestamp_with_time_zone("created_at"))
            .primary_key(Index::create().col("node_id").col("port"))
            .foreign_key(
                ForeignKey::create()
                    .from("port_leases", "node_id")
                    .to("nodes", "id"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("port_leases", "deployment_id")
                    .to("deployments", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("port_leases_deployment")
            .table("port_leases")
            .col("deployment_id")
            .to_owned();
        manager.create_index(index).await?;
        // What a revision was offered goes back when it ends; only reserved ports name one.
        let index = Index::create()
            .name("port_leases_revision")
            .table("port_leases")
            .col("revision_id")
            .and_where(Expr::col("revision_id").is_not_null())
            .to_owned();
        manager.create_index(index).await
    }
}
