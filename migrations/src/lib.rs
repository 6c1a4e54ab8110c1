//! The database schema, for Postgres and SQLite alike: one file a subject, in order.
//!
//! Rules that hold for every table:
//! - ids are UUIDs made by us, never counted up by a database;
//! - words (statuses and the like) are texts in their one spelling, so that a row reads alone;
//! - documents (specs, work requests) are JSON in text columns: nothing asks inside them, both
//!   databases store them alike, and Postgres' `jsonb` refuses the NUL that a hostile text may hold;
//! - a claim is a lease in columns (`…claim_token`, `…claimed_until`), never a held transaction;
//! - a change works beside the release before it: expand, move, contract.

#![expect(
    elided_lifetimes_in_paths,
    reason = "async_trait tells the two spellings apart, and the trait elides"
)]

use sea_orm_migration::prelude::*;

mod m20261120_000001_create_store_meta;
mod m20261120_000002_create_nodes;
mod m20261120_000003_create_deployments;
mod m20261120_000004_create_revisions;
mod m20261120_000005_create_revision_events;
mod m20261120_000006_create_work_requests;
mod m20261120_000007_create_port_leases;
mod m20261120_000008_create_service_states;
mod m20261120_000009_create_build_logs;
mod m20261125_000010_lease_work_and_nodes;
mod m20261125_000011_create_port_offers;
mod m20261125_000012_find_unsent_work;
mod m20261125_000013_trust_locked_parents;
mod m20261125_000014_index_moves;
mod m20261125_000015_create_dead_letters;
mod m20261126_000016_rewrite_less;
mod m20261126_000017_note_rivals;

/// All changes of the schema, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261120_000001_create_store_meta::Migration),
            Box::new(m20261120_000002_create_nodes::Migration),
            Box::new(m20261120_000003_create_deployments::Migration),
            Box::new(m20261120_000004_create_revisions::Migration),
            Box::new(m20261120_000005_create_revision_events::Migration),
            Box::new(m20261120_000006_create_work_requests::Migration),
            Box::new(m20261120_000007_create_port_leases::Migration),
            Box::new(m20261120_000008_create_service_states::Migration),
            Box::new(m20261120_000009_create_build_logs::Migration),
            Box::new(m20261125_000010_lease_work_and_nodes::Migration),
            Box::new(m20261125_000011_create_port_offers::Migration),
            Box::new(m20261125_000012_find_unsent_work::Migration),
            Box::new(m20261125_000013_trust_locked_parents::Migration),
            Box::new(m20261125_000014_index_moves::Migration),
            Box::new(m20261125_000015_create_dead_letters::Migration),
            Box::new(m20261126_000016_rewrite_less::Migration),
            Box::new(m20261126_000017_note_rivals::Migration),
        ]
    }
}
