//! Finding work that is to be sent among work that was sent and is not taken yet.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // By its id it was found only after everything that nodes have yet to take was read.
        let index = Index::drop()
            .name("work_requests_unaccepted")
            .table("work_requests")
            .to_owned();
        manager.drop_index(index).await?;
        let index = Index::create()
            .name("work_requests_unsent")
            .table("work_requests")
            .col("published_at")
            .and_where(
                Expr::col("accepted_at")
                    .is_null()
                    .and(Expr::col("finished_at").is_null()),
            )
            .to_owned();
        manager.create_index(index).await
    }
}
