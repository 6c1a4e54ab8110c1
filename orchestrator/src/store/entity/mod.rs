//! One file a table: plain rows. What the columns mean stands in the migrations.
#![allow(
    unreachable_pub,
    reason = "the entity macros of sea-orm write `pub`, and rows do not leave this crate"
)]

pub mod build_log;
pub mod build_log_line;
pub mod dead_letter;
pub mod deployment;
pub mod deployment_label;
pub mod node;
pub mod parked_report;
pub mod port_lease;
pub mod port_offer;
pub mod revision;
pub mod revision_event;
pub mod service_state;
pub mod store_meta;
pub mod work_request;
