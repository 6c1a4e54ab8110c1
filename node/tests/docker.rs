//! The node's hands on a real container engine: what is built, run, watched, forwarded and removed.
//!
//! The engine may be shared with others: each test makes a deployment and a node name of its own,
//! touches nothing else, and removes what it made, also when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

#[path = "docker/build.rs"]
mod build;
#[path = "docker/events.rs"]
mod events;
#[path = "docker/forward.rs"]
mod forward;
#[path = "docker/network.rs"]
mod network;
#[path = "docker/purge.rs"]
mod purge;
#[path = "docker/run.rs"]
mod run;
#[path = "docker/support.rs"]
mod support;
