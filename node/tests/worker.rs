//! A node over a bus in memory and a machine in memory: what it does with work, in which order it
//! says so, and what it takes up after it was killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

#[path = "worker/app.rs"]
mod app;
#[path = "worker/crashes.rs"]
mod crashes;
#[path = "worker/deploys.rs"]
mod deploys;
#[path = "worker/drift.rs"]
mod drift;
#[path = "worker/life.rs"]
mod life;
#[path = "worker/orders.rs"]
mod orders;
#[path = "worker/pictures.rs"]
mod pictures;
#[path = "worker/support.rs"]
mod support;
