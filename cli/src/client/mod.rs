//! The client of the public API: GraphQL and nothing else.
//!
//! - [`document`]: every query that the commands send; a test checks them against the committed SDL
//! - [`model`]: what comes back
//! - [`http`]: queries and mutations
//! - [`socket`]: subscriptions, as `graphql-transport-ws`
//! - [`access`]: where the server is and who asks

pub(crate) mod access;
pub(crate) mod document;
mod error;
mod http;
pub(crate) mod model;
mod socket;

pub(crate) use error::ClientError;
pub(crate) use http::Client;
pub(crate) use socket::{Socket, SocketEvent};
