//! The machines of the fleet, as their heartbeats describe them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, integer, string_len, text, text_null, timestamp_with_time_zone, uuid,
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("nodes")
            .col(uuid("id").primary_key())
            .col(string_len("name", 63).unique_key())
            .col(string_len("status", 16))
            .col(text_null("detail"))
            .col(text("version"))
            .col(text_null("engine_version"))
            .col(text("advertise"))
            .col(text("labels"))
            .col(big_integer("cpu_millis"))
            .col(big_integer("memory_bytes"))
            .col(big_integer("slots"))
            .col(big_integer("memory_used_bytes"))
            .col(big_integer("memory_declared_bytes"))
            .col(big_integer("cpu_declared_millis"))
            .col(big_integer("running"))
            .col(big_integer("busy_slots"))
            // The first port of the block that the next new deployment on this node gets.
            .col(integer("port_cursor"))
            // When the node process started, by its own clock: tells a late heartbeat of an earlier one apart.
            .col(timestamp_with_time_zone("started_at"))
            // When its last heartbeat arrived, by the database's clock: liveness is judged by this alone.
            .col(timestamp_with_time_zone("last_heartbeat_at"))
            .col(timestamp_with_time_zone("created_at"))
            .col(timestamp_with_time_zone("updated_at"))
            .to_owned();
        manager.create_table(table).await
    }
}
