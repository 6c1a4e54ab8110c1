//! Leases of accepted work, and what is asked of nodes: to be cordoned, drained, reconciled, removed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, integer, timestamp_with_time_zone_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            // Gets nothing new.
            ("nodes", boolean("cordoned").default(false).to_owned()),
            // What can be moved is moved away until then; also cordoned.
            ("nodes", timestamp_with_time_zone_null("drain_until")),
            // How many placements it was given: see the messages `DeployWork` and `Assignments`.
            ("nodes", big_integer("given").default(0).to_owned()),
            // Back after it was lost: takes no work before it has compared the whole picture.
            ("nodes", boolean("must_reconcile").default(false).to_owned()),
            // When it is told the whole picture next.
            ("nodes", timestamp_with_time_zone_null("assignments_due_at")),
            // Taken out of the fleet; the row stays for the history. A heartbeat brings it back.
            ("nodes", timestamp_with_time_zone_null("removed_at")),
            // How often it was dispatched again since it last ran: bounded.
            ("revisions", integer("attempts").default(0).to_owned()),
            // Until when its node is believed to be at it: renewed by what the node says.
            (
                "work_requests",
                timestamp_with_time_zone_null("leased_until"),
            ),
        ];
        for (table, column) in columns {
            let add = Table::alter().table(table).add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        let index = Index::create()
            .name("work_requests_lease")
            .table("work_requests")
            .col("leased_until")
            .and_where(
                Expr::col("finished_at")
                    .is_null()
                    .and(Expr::col("leased_until").is_not_null()),
            )
            .to_owned();
        manager.create_index(index).await?;
        let index = Index::create()
            .name("nodes_assignments_due")
            .table("nodes")
            .col("assignments_due_at")
            .to_owned();
        manager.create_index(index).await
    }
}
