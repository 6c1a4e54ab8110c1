//! The fetch against real Git servers, hostile ones, and hostile repositories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

#[path = "git/certificates.rs"]
mod certificates;
#[path = "git/context.rs"]
mod context;
#[path = "git/limits.rs"]
mod limits;
#[path = "git/ls_remote.rs"]
mod ls_remote;
#[path = "git/network.rs"]
mod network;
#[path = "git/refs.rs"]
mod refs;
#[path = "git/refusals.rs"]
mod refusals;
#[path = "git/submodules.rs"]
mod submodules;
#[path = "git/support.rs"]
mod support;
#[path = "git/transports.rs"]
mod transports;
