//! Postgres checks a foreign key row by row, which costs about as much as writing the row. The rows
//! of these tables come in numbers, are written by transactions that have just read or locked the row
//! that they name, and that row is never deleted. SQLite keeps its checks: there they cost little.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Tables and the columns whose constraint goes.
const UNCHECKED: [(&str, &str); 6] = [
    ("revision_events", "revision_id"),
    ("work_requests", "deployment_id"),
    ("work_requests", "revision_id"),
    ("port_leases", "deployment_id"),
    ("service_states", "revision_id"),
    ("build_log_lines", "revision_id"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for (table, column) in UNCHECKED {
            let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_fkey");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}
