//! What ports a node may choose from for a revision: one row, since as a rule it takes one of eight.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{boolean, integer, text, timestamp_with_time_zone, uuid};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("port_offers")
            .col(uuid("revision_id").primary_key())
            .col(uuid("node_id"))
            // The ports as a list, and the lowest of them.
            .col(text("ports"))
            .col(integer("low"))
            // Whether they lie further apart than the few blocks that an offer usually takes.
            .col(boolean("wide"))
            .col(timestamp_with_time_zone("created_at"))
            .to_owned();
        manager.create_table(table).await?;
        let index = Index::create()
            .name("port_offers_node_low")
            .table("port_offers")
            .col("node_id")
            .col("low")
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("port_offers_wide")
            .table("port_offers")
            .col("node_id")
            .and_where(Expr::col("wide"))
            .to_owned();
        manager.create_index(index).await?;
        // Until now what was offered was a lease of its own. Those of revisions under way are held
        // from now on: what a revision does not use goes back when it runs.
        let held = Query::update()
            .table("port_leases")
            .value("state", "HELD")
            .value("revision_id", Expr::cust("NULL"))
            .and_where(Expr::col("state").eq("RESERVED"))
            .to_owned();
        manager.execute(held).await?;
        let index = Index::drop()
            .name("port_leases_revision")
            .table("port_leases")
            .to_owned();
        manager.drop_index(index).await
    }
}
