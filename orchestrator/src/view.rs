//! What is answered: plain values for whoever shows them. Nothing here is a row.

use crate::draining::Drain;
use chrono::{DateTime, Utc};
use shared::id::{DeadLetterId, DeploymentId, NodeId, RevisionId};
use shared::message::{Capacity, Load};
use shared::name::{DeploymentName, NodeName, ServiceName};
use shared::source::Source;
use shared::status::{
    ApplicationStatus, DeploymentStatus, DesiredState, FailureReason, Method, NodeStatus,
    RevisionCause,
};
use std::collections::BTreeMap;

/// A deployment as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentView {
    /// Its identity.
    pub id: DeploymentId,
    /// Its name, unique among the deployments that are not destroyed.
    pub name: DeploymentName,
    /// Where its versions come from.
    pub source: Source,
    /// What the user wants of it.
    pub desired_state: DesiredState,
    /// How a new revision replaces the old one, when the user said so.
    pub method: Option<Method>,
    /// The node that it must run on, when the user said so.
    pub pinned_node: Option<NodeName>,
    /// The node that it is placed on.
    pub node_id: Option<NodeId>,
    /// The revision that serves, or served last.
    pub active_revision_id: Option<RevisionId>,
    /// The newest revision.
    pub latest_revision_id: Option<RevisionId>,
    /// Where it stands, worked out from its revisions.
    pub status: DeploymentStatus,
    /// Where it answers, when it has a leased port.
    pub url: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
    /// How its repository is watched; none for other sources.
    pub git_watch: Option<GitWatchView>,
}

/// How a repository is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitWatchView {
    /// When it was last looked at.
    pub last_polled_at: Option<DateTime<Utc>>,
    /// When it is looked at next; none when it is not watched now.
    pub next_poll_at: Option<DateTime<Utc>>,
    /// The commit that the ref named then.
    pub last_seen_commit: Option<String>,
    /// Why the last look failed; none when it did not.
    pub last_poll_error: Option<String>,
}

/// A revision as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionView {
    /// Its identity.
    pub id: RevisionId,
    /// Its deployment.
    pub deployment_id: DeploymentId,
    /// Its number within the deployment, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: ApplicationStatus,
    /// Why it failed, when it did.
    pub failure_reason: Option<FailureReason>,
    /// What a person should know.
    pub status_detail: Option<String>,
    /// The commit or image digest, once it is known.
    pub source_version: Option<String>,
    /// SHA-256 of everything that decides what runs, in hexadecimal, once it is known.
    pub content_hash: Option<String>,
    /// The attempt; 0 before the first.
    pub epoch: i32,
    /// The node that it is placed on.
    pub node_id: Option<NodeId>,
    /// What it was made for.
    pub cause: RevisionCause,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
}

/// A node as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it takes work.
    pub status: NodeStatus,
    /// Why not, or what is worth knowing.
    pub detail: Option<String>,
    /// Longshore's version on it.
    pub version: String,
    /// The version of its container engine, when that answers.
    pub engine_version: Option<String>,
    /// The host or address that its leased ports are reached by.
    pub advertise: String,
    /// What it has.
    pub capacity: Capacity,
    /// What it uses.
    pub load: Load,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// When its last heartbeat arrived.
    pub last_heartbeat_at: DateTime<Utc>,
    /// Whether it gets nothing new.
    pub cordoned: bool,
    /// Until when what can be moved is moved away from it; also when that is over.
    pub drain_until: Option<DateTime<Utc>>,
    /// How it stands with that.
    pub drain: Option<Drain>,
}

/// A message that nobody could handle, as people see it. Its body is read apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterView {
    /// Its identity.
    pub id: DeadLetterId,
    /// The queue that it came from.
    pub queue: String,
    /// The node that it was for, when it was work for one.
    pub node: Option<NodeName>,
    /// Why nobody could handle it.
    pub reason: String,
    /// Who sent it, as the broker vouches for it.
    pub sender: Option<String>,
    /// How often it was delivered, when that is known.
    pub deliveries: Option<u32>,
    /// The size of the message as it came, in bytes.
    pub size: u64,
    /// Whether its body is shown as it came; else in Base64.
    pub is_text: bool,
    /// Whether all of its body was kept, not only the beginning.
    pub is_whole: bool,
    /// When it died.
    pub died_at: DateTime<Utc>,
}

/// One service of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The service.
    pub name: ServiceName,
    /// How it stands.
    pub status: ApplicationStatus,
    /// The image that it runs, by the engine's id.
    pub image: String,
    /// How often the engine restarted it since it was created.
    pub restarts: u32,
    /// Where an ingress serves it.
    pub domain: Option<String>,
}

/// A host port that a deployment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortLeaseView {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The node.
    pub node_id: NodeId,
    /// The port on the node.
    pub port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The service.
    pub service: ServiceName,
}

/// A label of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelView {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
}
