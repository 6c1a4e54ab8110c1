//! The fault suite: real processes on a real Postgres, RabbitMQ and Docker Engine, ended, cut off and
//! lied to. After each fault the same oracle asks whether rows, containers, ports and queues agree.
//!
//! - [`points`]: a process ends at a named place of its code, as with SIGKILL;
//! - the files beside: what happens to the world around;
//! - [`slow`]: what takes minutes, or a machine of its own. `make faults` runs all and prints a table,
//!   `make test` leaves these out; `make chaos` runs the last of them with as many deployments as wanted.
//!
//! They need what the end-to-end tests need, and root for network namespaces and small disks.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails loudly, and says what it measured"
)]

mod disk;
mod fleet;
mod points;
mod reports;
mod services;
mod slow;
mod subscriber;
mod table;
