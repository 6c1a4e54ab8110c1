//! Orders to one node. Each is complete in itself, for a node has no database.

use super::Assignments;
use crate::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use crate::name::{DeploymentName, ServiceName};
use crate::source::{CommitId, ImageDigest, Source};
use crate::spec::DeploymentSpec;
use crate::status::Method;
use serde::{Deserialize, Serialize};

/// One thing in a node's work queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum WorkItem {
    /// Something to do.
    Request(Box<WorkRequest>),
    /// Everything that the node should have.
    Assignments(Box<Assignments>),
}

impl From<WorkRequest> for WorkItem {
    fn from(request: WorkRequest) -> Self {
        Self::Request(Box::new(request))
    }
}

/// The command that the orchestrator sends to a node's work queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkRequest {
    /// Its own identity: a node that sees it again does it no second time.
    pub id: WorkId,
    /// The store that it comes from; a change means the store was restored.
    pub store: StoreIncarnation,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The deployment's name, for labels and log lines.
    pub deployment_name: DeploymentName,
    /// The revision that is acted on.
    pub revision_id: RevisionId,
    /// Its number within the deployment.
    pub revision: i32,
    /// The attempt. Whoever acts for an older one is ignored.
    pub epoch: i32,
    /// The last report of this epoch that is applied: a node continues above it, also when it
    /// has lost its journal.
    pub last_report_seq: i32,
    /// What to do.
    pub action: WorkAction,
}

/// What a node is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkAction {
    /// Fetch, build, start, verify and switch.
    Deploy(DeployWork),
    /// Take up a revision that runs here although the node has no record of it: it lost its journal.
    Adopt(Box<AdoptWork>),
    /// Stop the revision's containers and keep them.
    Stop(ServiceSelection),
    /// Start the revision's stopped containers and verify them.
    Start(ServiceSelection),
    /// Stop and start the revision's containers and verify them.
    Restart(ServiceSelection),
    /// Remove every container, network, image and directory of the deployment.
    Destroy {
        /// Also its volumes, and with them its data.
        volumes: bool,
    },
    /// Give up the revision's deployment action and clean up after it.
    Cancel,
    /// Send the service log to a reader until it goes away. Not journalled: the reader asks again.
    FollowLogs {
        /// Whom the lines are for.
        stream: crate::id::StreamId,
        /// Only this service.
        service: Option<ServiceName>,
        /// How many of the last lines to begin with.
        tail: u32,
        /// The reader renews its wish before this many seconds have passed, else the node stops.
        lease_seconds: u32,
    },
    /// The reader of a service log went away.
    UnfollowLogs {
        /// Whose lines to stop.
        stream: crate::id::StreamId,
    },
}

impl WorkAction {
    /// Whether it is a reader's wish, which is neither a row nor journalled.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::FollowLogs { .. } | Self::UnfollowLogs { .. })
    }
}

/// Which services an order is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSelection {
    /// These only; all when empty.
    #[serde(default)]
    pub services: Vec<ServiceName>,
}

/// What a deployment action needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployWork {
    /// Where the version comes from.
    pub source: Source,
    /// This very commit, when the revision is about one (found by a watcher, or a rollback).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// How it replaces the revision before it, when the user said so; else the source decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Ports that the deployment holds on this node, to be used again, then fresh ones to choose
    /// from, in order.
    pub ports: PortOffer,
    /// Which of the node's placements this is, counted by the store, from 1. What a picture with a
    /// lower [`Assignments::as_of`] does not name may be newer than that picture.
    #[serde(default)]
    pub given: i64,
}

/// What the store knows of a revision that a node has lost its record of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdoptWork {
    /// The commit that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The digest of the image that was pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// SHA-256 of everything that decides what runs, in hexadecimal.
    pub content_hash: String,
    /// What runs.
    pub spec: DeploymentSpec,
    /// The host ports that it is reached by.
    pub ports: Vec<super::LeasedPort>,
    /// Whether it was stopped on request.
    pub stopped: bool,
    /// As [`DeployWork::given`].
    pub given: i64,
}

/// Host ports that a node may use for a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortOffer {
    /// Leased to the deployment by an earlier revision: the same service and container port get
    /// the same port again.
    #[serde(default)]
    pub held: Vec<super::LeasedPort>,
    /// Reserved for this work request. The node takes the first that are not bound on its host and
    /// says in its report which; the rest go back.
    #[serde(default)]
    pub fresh: Vec<u16>,
}
