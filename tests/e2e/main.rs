//! End-to-end tests: the real binary, real Docker, real Git over HTTP, and for the fleet a real
//! Postgres and RabbitMQ. Nothing here knows the crates inside the binary; what these tests see is
//! what a user sees.
//!
//! They need what `make test` provides: a Docker Engine with the base images, and for `fleet`
//! `LONGSHORE_TEST_DATABASE_URL` and `LONGSHORE_TEST_AMQP_URL` (+ `_MANAGEMENT`). Without it they
//! fail and say so.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly"
)]

mod bad_input;
mod command_line;
mod examples;
mod fleet;
mod images;
mod leaving;
mod lifecycle;
mod outage;
mod process;
mod standalone;
