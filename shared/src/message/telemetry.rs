//! What a node says in passing on `telemetry`: heartbeats and log lines. Transient: what is lost
//! is not sent again, and nothing is decided by a log line.

use crate::id::{RevisionId, StreamId, WorkId};
use crate::name::{LabelKey, LabelValue, NodeName, ServiceName};
use crate::status::LogStream;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that a node says in passing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TelemetryItem {
    /// The node is alive.
    Heartbeat(Box<Heartbeat>),
    /// What the node holds in its journal and works on: renews the leases of that work.
    Holds(Holds),
    /// A line of a build log or service log.
    Log(LogLine),
    /// A log ended: the reader has everything once it has `lines` lines.
    LogEnd {
        /// The log.
        subject: LogSubject,
        /// How many lines it had; the last `seq`.
        lines: i64,
    },
}

/// Routing keys on the `telemetry` exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TelemetryTopic {
    /// Heartbeats of all nodes.
    Heartbeat,
    /// Build and service log lines of all nodes.
    Log,
}

impl TelemetryTopic {
    /// As RabbitMQ has it.
    #[must_use]
    pub const fn routing_key(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Log => "log",
        }
    }
}

/// A node that is alive: sent every 5 s and at once when something here changed. The first one of
/// an unknown name registers the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its name.
    pub node: NodeName,
    /// Longshore's version on it.
    pub version: String,
    /// The host or address that its leased ports are reached by.
    pub advertise: String,
    /// What it says of itself, for selection.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Whether it takes work.
    pub ready: bool,
    /// Why not, or what is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The version of its container engine, when that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What it has.
    pub capacity: Capacity,
    /// What it uses.
    pub load: Load,
    /// Rises with every start of the node process, so that a late heartbeat of an earlier one is told apart.
    pub started_at: DateTime<Utc>,
    /// When, by the node's clock. Only shown: liveness is by arrival.
    pub at: DateTime<Utc>,
}

/// Accepted work that has not come to its end: in the node's journal, so that it will be done. Sent
/// every 10 s for what has been there for longer than that, in parts of at most 2,000.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The node.
    pub node: NodeName,
    /// The work requests.
    pub work: Vec<WorkId>,
}

/// What a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Deployment actions at once.
    pub slots: u32,
}

/// What a node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Memory in use on the host, in bytes.
    pub memory_used_bytes: u64,
    /// Memory that its deployments declared, in bytes.
    pub memory_declared_bytes: u64,
    /// Processors that its deployments declared, in thousandths of a core.
    pub cpu_declared_millis: u32,
    /// Containers of deployments that run.
    pub running: u32,
    /// Deployment actions under way.
    pub busy_slots: u32,
}

/// How far apart the first lines of two tries of one attempt are numbered: a node that begins an
/// attempt again after a restart does not know how many lines it sent before.
pub const LOG_TRY: i64 = 1_000_000;

/// Which log a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "log", content = "id", rename_all = "snake_case")]
pub enum LogSubject {
    /// The log of a revision's deployment action: fetch, build, start, verify.
    Build {
        /// The revision.
        revision_id: RevisionId,
        /// The attempt.
        epoch: i32,
    },
    /// What a service prints, for one reader.
    Service(StreamId),
}

/// Who printed a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSource {
    /// The service, in a service log.
    pub service: ServiceName,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The log.
    pub subject: LogSubject,
    /// The service that printed it, in a service log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<LogSource>,
    /// Rises by one with each line of a log, from 1.
    pub seq: i64,
    /// When, by the node's clock.
    pub at: DateTime<Utc>,
    /// Where it came from.
    pub stream: LogStream,
    /// The line, without its end, at most 8 KiB; longer ones are cut with a mark.
    pub text: String,
}
