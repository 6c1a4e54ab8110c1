//! The port forwarder: a small process of its own that listens on the leased ports and pipes each
//! connection to the container that serves it now.
//!
//! A leased port has to stay the same over redeploys, and a redeploy must not lose a request, so
//! the engine does not publish ports where this process can reach the containers themselves. It is
//! the same binary, started by the node ([`Forwarder`]) in a session of its own: it goes on when
//! the node is killed, restarted or upgraded, and its table is on disk, so that a new one continues
//! where it was. A switch is one change of the table: connections that are open stay with the
//! container that they were made to, every later one goes to the new container, and
//! [`Forwarder::drained`] tells when the old one has none left.
//!
//! ```text
//! client ──► 0.0.0.0:<leased port> ──► <container address>:<container port>
//!                     ▲
//!      node ── control socket (one JSON line each way, mode 0600)
//! ```

mod client;
mod ports;
mod protocol;
mod server;
mod table;

pub use client::{ForwardError, Forwarder, ForwarderSettings};
pub use protocol::{ForwarderState, Route, RouteState, TargetState};
pub use server::{ForwardArgs, IDLE, main};
