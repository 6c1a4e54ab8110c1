//! The types that are answered, one noun a file. Each wraps what the engine answered; what belongs
//! to another row comes through [`crate::loader`].

mod dead_letter;
mod deployment;
mod event;
mod log;
mod node;
mod revision;
mod source;

pub(crate) use dead_letter::{DeadLetter, DeadLetterConnection};
pub(crate) use deployment::{Deployment, DeploymentConnection};
pub(crate) use event::StatusEvent;
pub(crate) use log::LogLine;
pub(crate) use node::Node;
pub(crate) use revision::Revision;

use async_graphql::ID;

/// An id as the API has it.
fn id(id: impl std::fmt::Display) -> ID {
    ID(id.to_string())
}

/// A count as GraphQL's 32-bit Int; the few that could be larger stay at its end.
fn int(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}
