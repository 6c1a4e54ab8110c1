//! The client commands as processes, against a server that plays a script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fake;
mod run;
mod wait;
