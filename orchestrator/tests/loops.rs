//! The loops of an orchestrator with nodes that are played by the tests: from a command to a node's
//! work queue, from a node's report to whoever follows.
//!
//! Each test runs in three settings: SQLite and the local bus (standalone), Postgres and the local
//! bus, Postgres and RabbitMQ (the fleet). `make test` starts both services.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: what they did not expect ends them"
)]

#[macro_use]
#[path = "loops/fleet.rs"]
mod fleet;
#[path = "loops/node.rs"]
mod node;

#[path = "loops/dead_letters.rs"]
mod dead_letters;
#[path = "loops/lifecycle.rs"]
mod lifecycle;
#[path = "loops/pictures.rs"]
mod pictures;
#[path = "loops/placing.rs"]
mod placing;
#[path = "loops/reports.rs"]
mod reports;
#[path = "loops/several.rs"]
mod several;
