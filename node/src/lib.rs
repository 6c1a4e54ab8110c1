//! The hand: takes work from its own queue, does it with Git and a container engine, and says what
//! it saw. Knows nothing of the database.
//!
//! Reading order: [`config`] (what an operator decides), `service` (what runs), `worker` and
//! `lanes` (how work is taken and ordered), [`journal`] (what survives), `action` (what is done),
//! `watch` (what is seen afterwards), `assignments` (that nothing else is here), `outbox`,
//! `heartbeat`, `holds` and [`log_sink`] (what is said), and
//! [`runtime`] (the world that all of it happens in), which is made of [`git`], [`docker`],
//! [`forward`] and [`probe`].

mod action;
mod assignments;
mod backoff;
pub mod config;
mod core;
pub mod docker;
mod engine;
pub mod error;
pub mod forward;
pub mod git;
mod heartbeat;
mod holds;
pub mod journal;
mod lanes;
pub mod log_sink;
mod logs;
mod outbox;
pub mod probe;
pub mod runtime;
mod service;
pub mod state_dir;
mod syntax;
mod telemetry;
pub mod text;
mod watch;
mod worker;

pub use config::{BuildLimits, NodeSettings};
pub use error::{ServiceError, StartError};
pub use service::{Node, Service};
