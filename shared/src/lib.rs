//! The words both sides speak: ids, statuses, specs, messages and the bus.
//!
//! Everything here is either a value or a pure function over values, except [`bus`], which is the
//! one way a message leaves a process, and [`clock`] and [`chance`]. Nothing here knows a database, HTTP or Docker.
//!
//! Reading order: [`id`] and [`name`] (what things are called), [`status`] (where a revision
//! stands), [`spec`] (what to run), [`message`] (what orchestrator and nodes tell each other),
//! [`bus`] (how it travels).

pub mod bus;
pub mod chance;
pub mod clock;
pub mod failpoint;
pub mod git;
pub mod guard;
pub mod id;
pub mod message;
pub mod name;
pub mod secret;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod source;
pub mod spec;
pub mod status;
pub mod telemetry;
