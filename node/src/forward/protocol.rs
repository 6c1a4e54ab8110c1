//! What the node and the forwarder say to each other: one JSON line for each request, one back.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The version of this protocol. A node that finds a forwarder of another one replaces it.
pub(super) const PROTOCOL: u16 = 1;

/// The longest line that is read, in bytes: the table of a node with all its ports leased fits.
pub(super) const LINE_LIMIT: u64 = 8 * 1024 * 1024;

/// Where connections to a port go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The leased port, listened on at all addresses of the host.
    pub port: u16,
    /// The container's own address and port.
    pub target: SocketAddr,
}

/// What a forwarder is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwarderState {
    /// Its process.
    pub pid: u32,
    /// Its routes, by port.
    pub routes: Vec<RouteState>,
    /// Targets that have connections, those of earlier routes included.
    pub targets: Vec<TargetState>,
}

/// How a route is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteState {
    /// The route.
    #[serde(flatten)]
    pub route: Route,
    /// Whether the port is listened on. It is not when something else took it while no forwarder
    /// ran; putting the route again tries again.
    pub bound: bool,
    /// Connections accepted since the port was bound.
    pub accepted: u64,
    /// Of these, connections that no target could be reached for.
    pub failed: u64,
}

/// How many connections a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// The target.
    pub target: SocketAddr,
    /// Open connections, and those being made.
    pub connections: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) v: u16,
    #[serde(flatten)]
    pub(super) op: Op,
}

/// The part of a request that is read whatever its version.
#[derive(Debug, Deserialize)]
pub(super) struct AnyRequest {
    pub(super) v: u16,
    pub(super) op: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Op {
    /// Adds or changes routes: all of them, or none when one of the ports cannot be bound.
    Put { routes: Vec<Route> },
    /// Removes routes; open connections go on.
    Remove { ports: Vec<u16> },
    /// Makes these the only routes.
    Set { routes: Vec<Route> },
    /// Asks for the state.
    List,
    /// Waits until a target has no connection, at most so long.
    Drained { target: SocketAddr, limit_ms: u64 },
    /// Ends the process. Understood in every version.
    Shutdown,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(super) enum Reply {
    Done,
    State(ForwarderState),
    Connections { count: u32 },
    PortTaken { port: u16, detail: String },
    Refused { detail: String },
    OtherVersion { v: u16 },
}
