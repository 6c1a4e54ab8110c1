//! Moves that nobody has begun with: few among all that waits.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = Index::create()
            .name("revisions_moving")
            .table("revisions")
            .col("id")
            .and_where(
                Expr::col("status")
                    .eq("REQUESTED")
                    .and(Expr::col("cause").is_in(["MOVED", "NODE_LOST"])),
            )
            .to_owned();
        manager.create_index(index).await
    }
}
