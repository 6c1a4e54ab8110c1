//! Fewer index entries and more room, so that a step of a revision is one small write.
//!
//! PostgreSQL writes a changed row into its own page, and no index entry, when no indexed column
//! changed and the page has room (a heap-only tuple). A revision's status changes at each step, so no
//! index names it any longer: what the loops look for stands in columns that the database derives
//! from it, which change twice or three times in the life of a revision. Claims of revisions are row
//! locks now, so their columns go.
//!
//! PostgreSQL looks up and locks a row's parent for each foreign key that a statement writes, row by
//! row. Nodes and deployments are never deleted, and whoever writes these columns has read and locked
//! their rows in the same transaction, so what is checked here twice is checked once. SQLite keeps the
//! constraints, and every test of the store runs on both.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::boolean;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Derived columns of revisions, and when they are true.
const DERIVED: [(&str, &str); 2] = [
    ("is_requested", "status = 'REQUESTED'"),
    // A node has it, or did when it was last heard of: it is in the picture of that node.
    (
        "is_placed",
        "status IN ('INITIALIZED', 'FETCHING', 'BUILDING', 'STARTING', 'VERIFYING', 'RUNNING', 'DEGRADED', 'STOPPED')",
    ),
];

/// Indexes that name what changes all the time, or that nothing is looked up by.
const GONE: [(&str, &str); 5] = [
    ("revisions", "revisions_status"),
    ("revisions", "revisions_node_status"),
    ("revisions", "revisions_moving"),
    ("deployments", "deployments_node"),
    ("work_requests", "work_requests_revision"),
];

/// Foreign keys to rows that are never deleted: table and column.
const TRUSTED: [(&str, &str); 5] = [
    ("deployments", "node_id"),
    ("revisions", "deployment_id"),
    ("revisions", "node_id"),
    ("work_requests", "node_id"),
    ("port_leases", "node_id"),
];

/// Tables whose rows are rewritten, and how full their pages are made, in percent.
const ROOM: [(&str, u8); 4] = [
    ("revisions", 40),
    ("deployments", 50),
    ("work_requests", 60),
    ("nodes", 30),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, name) in GONE {
            let index = Index::drop().name(name).table(table).to_owned();
            manager.drop_index(index).await?;
        }
        for column in ["claimed_by", "claim_token", "claimed_until"] {
            let drop = Table::alter()
                .table("revisions")
                .drop_column(column)
                .to_owned();
            manager.alter_table(drop).await?;
        }
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        for (name, when) in DERIVED {
            // SQLite adds only such as it derives when they are read.
            let column = boolean(name)
                .null()
                .generated(Expr::cust(when), is_postgres)
                .to_owned();
            let add = Table::alter()
                .table("revisions")
                .add_column(column)
                .to_owned();
            manager.alter_table(add).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        if is_postgres {
            for (table, column) in TRUSTED {
                let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_fkey");
                manager.get_connection().execute_unprepared(&drop).await?;
            }
            for (table, percent) in ROOM {
                let alter = format!("ALTER TABLE {table} SET (fillfactor = {percent})");
                manager.get_connection().execute_unprepared(&alter).await?;
            }
        }
        Ok(())
    }
}

fn on(table: &'static str, name: &'static str, column: &'static str) -> IndexCreateStatement {
    let mut index = Index::create();
    index.table(table).name(name).col(column).take()
}

fn indexes() -> [IndexCreateStatement; 6] {
    [
        on("revisions", "revisions_requested", "id")
            .and_where(Expr::cust("is_requested"))
            .to_owned(),
        // Moves that nobody has begun with: few among all that waits.
        on("revisions", "revisions_moving", "id")
            .and_where(Expr::cust("is_requested"))
            .and_where(Expr::col("cause").is_in(["MOVED", "NODE_LOST"]))
            .to_owned(),
        on("revisions", "revisions_placed", "node_id")
            .and_where(Expr::cust("is_placed"))
            .to_owned(),
        on("revisions", "revisions_giving_up", "id")
            .and_where(Expr::cust("is_placed"))
            .and_where(Expr::col("cancel_requested_at").is_not_null())
            .to_owned(),
        // Being destroyed: what waits for a node's answer.
        on("deployments", "deployments_going", "id")
            .and_where(Expr::col("live_name").is_not_null())
            .and_where(Expr::col("desired_state").eq("DESTROYED"))
            .to_owned(),
        on("work_requests", "work_requests_open_of", "revision_id")
            .and_where(Expr::col("finished_at").is_null())
            .to_owned(),
    ]
}
