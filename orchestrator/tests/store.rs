//! The store and what is asked of it, each test on SQLite and on Postgres.
//!
//! Postgres is the server of `LONGSHORE_TEST_DATABASE_URL`, where each test makes a database of its
//! own and drops it at the end. `make test` starts one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[macro_use]
#[path = "store/stage.rs"]
mod stage;

#[path = "store/assignments.rs"]
mod assignments;
#[path = "store/build_log.rs"]
mod build_log;
#[path = "store/connection.rs"]
mod connection;
#[path = "store/create.rs"]
mod create;
#[path = "store/dead_letter.rs"]
mod dead_letter;
#[path = "store/dispatch.rs"]
mod dispatch;
#[path = "store/fleet.rs"]
mod fleet;
#[path = "store/git_poll.rs"]
mod git_poll;
#[path = "store/lifecycle.rs"]
mod lifecycle;
#[path = "store/moves.rs"]
mod moves;
#[path = "store/node.rs"]
mod node;
#[path = "store/port.rs"]
mod port;
#[path = "store/query.rs"]
mod query;
#[path = "store/report.rs"]
mod report;
#[path = "store/revise.rs"]
mod revise;
#[path = "store/work.rs"]
mod work;
#[path = "store/work_lease.rs"]
mod work_lease;
