//! What the server answers, as far as the commands use it. The names are the API's own, also in what
//! `--output json` prints.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::status::{ApplicationStatus, DesiredState, FailureReason, LogStream, NodeStatus};

/// A deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: ApplicationStatus,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) status_detail: Option<String>,
    pub(crate) desired_state: DesiredState,
    pub(crate) url: Option<String>,
    pub(crate) source: Source,
    pub(crate) git_watch: Option<GitWatch>,
    pub(crate) labels: Vec<Label>,
    pub(crate) node: Option<NodeName>,
    pub(crate) ports: Vec<PortLease>,
    pub(crate) services: Vec<Service>,
    pub(crate) active_revision: Option<Revision>,
    pub(crate) latest_revision: Option<Revision>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// Where its versions come from. A kind that this release does not know has neither address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Source {
    #[serde(rename = "__typename")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub(crate) git_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subdir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) poll_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
}

impl Source {
    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let mut text = self
            .url
            .clone()
            .or_else(|| self.image.clone())
            .unwrap_or_else(|| self.kind.clone());
        if let Some(git_ref) = &self.git_ref {
            text.push_str(&format!(" at {git_ref}"));
        }
        if let Some(subdir) = &self.subdir {
            text.push_str(&format!(" in {subdir}"));
        }
        if let Some(port) = self.port {
            text.push_str(&format!(", port {port}"));
        }
        text
    }
}

/// How its repository is watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GitWatch {
    pub(crate) last_polled_at: Option<DateTime<Utc>>,
    pub(crate) next_poll_at: Option<DateTime<Utc>>,
    pub(crate) last_commit: Option<String>,
    pub(crate) last_error: Option<String>,
}

/// A label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A node, by its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeName {
    pub(crate) name: String,
}

/// A host port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortLease {
    pub(crate) port: u16,
    pub(crate) container_port: u16,
    pub(crate) service: String,
    pub(crate) node: NodeName,
}

/// A service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) status: ApplicationStatus,
    pub(crate) restarts: u32,
    pub(crate) domain: Option<String>,
}

/// A revision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revision {
    pub(crate) id: String,
    pub(crate) number: u32,
    pub(crate) status: ApplicationStatus,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) status_detail: Option<String>,
    pub(crate) source_version: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

/// One step of a revision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusEvent {
    pub(crate) revision_id: String,
    pub(crate) seq: i64,
    pub(crate) status: ApplicationStatus,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) detail: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// One line of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) seq: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) stream: LogStream,
    pub(crate) service: Option<String>,
    pub(crate) text: String,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: NodeStatus,
    pub(crate) detail: Option<String>,
    pub(crate) version: String,
    pub(crate) engine_version: Option<String>,
    pub(crate) advertise: String,
    pub(crate) capacity: NodeCapacity,
    pub(crate) load: NodeLoad,
    pub(crate) labels: Vec<Label>,
    pub(crate) last_heartbeat_at: DateTime<Utc>,
    pub(crate) cordoned: bool,
    pub(crate) drain: Option<NodeDrain>,
}

/// How a node is being emptied.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeDrain {
    pub(crate) until: DateTime<Utc>,
    pub(crate) is_over: bool,
    pub(crate) left: u32,
    pub(crate) stays: Vec<Staying>,
}

/// A deployment that stays on a node that is being emptied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Staying {
    pub(crate) deployment: String,
    pub(crate) reason: String,
}

/// A message that nobody could handle. Its body only where it was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) queue: String,
    pub(crate) node: Option<String>,
    pub(crate) reason: String,
    pub(crate) sender: Option<String>,
    pub(crate) deliveries: Option<u32>,
    pub(crate) size: u32,
    pub(crate) encoding: String,
    pub(crate) is_truncated: bool,
    pub(crate) died_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterPage {
    pub(crate) nodes: Vec<DeadLetter>,
    pub(crate) page_info: PageInfo,
}

/// What a node has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeCapacity {
    pub(crate) cpu_millis: u32,
    pub(crate) memory_mib: u32,
    pub(crate) slots: u32,
}

/// What a node uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeLoad {
    pub(crate) memory_used_mib: u32,
    pub(crate) running: u32,
    pub(crate) busy_slots: u32,
}

/// A page of deployments.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeploymentPage {
    pub(crate) nodes: Vec<Deployment>,
    pub(crate) page_info: PageInfo,
}

/// Where a page ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageInfo {
    pub(crate) has_next_page: bool,
    pub(crate) end_cursor: Option<String>,
}

/// What creates a deployment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateDeploymentInput {
    pub(crate) name: String,
    pub(crate) git: Option<GitSourceInput>,
    pub(crate) image: Option<ImageSourceInput>,
    pub(crate) labels: Vec<Label>,
    pub(crate) node: Option<String>,
}

/// A Git repository to deploy from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GitSourceInput {
    pub(crate) url: String,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    pub(crate) subdir: Option<String>,
    pub(crate) poll_seconds: Option<u32>,
}

/// An image of a registry to deploy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImageSourceInput {
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    pub(crate) port: Option<u16>,
}

/// An answer with one field, of whatever name.
#[derive(Clone, Debug)]
pub(crate) struct Only<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Only<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = std::collections::BTreeMap::<String, T>::deserialize(deserializer)?;
        let mut values = fields.into_values();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(Self(value)),
            _ => Err(serde::de::Error::custom("not exactly one field")),
        }
    }
}
