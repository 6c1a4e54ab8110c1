//! What a node says back on the `deployment` queue.

use crate::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use crate::name::{NodeName, ServiceName};
use crate::source::{CommitId, ImageDigest};
use crate::spec::DeploymentSpec;
use crate::status::{ApplicationStatus, FailureReason};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One thing that a node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeReport {
    /// A work request is in the node's journal: it need not be sent again.
    Accepted(WorkReceipt),
    /// A work request came to its end; what came of it stands in the status reports.
    Finished(WorkReceipt),
    /// A work request will not be done.
    Refused(WorkRefused),
    /// A revision stands somewhere else now.
    Status(StatusReport),
    /// A picture was compared and nothing that it does not name is left: a node that was lost may
    /// take work again.
    Reconciled(Reconciled),
    /// The picture names a revision that serves or is stopped, and the node has no record of it.
    Missing(RevisionMissing),
    /// Nothing of a deployment is left on the node; its ports there are free.
    Removed(DeploymentRemoved),
}

impl NodeReport {
    /// The node that says it.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        match self {
            Self::Accepted(receipt) | Self::Finished(receipt) => &receipt.node,
            Self::Refused(refused) => &refused.node,
            Self::Status(status) => &status.node,
            Self::Reconciled(reconciled) => &reconciled.node,
            Self::Missing(missing) => &missing.node,
            Self::Removed(removed) => &removed.node,
        }
    }
}

/// Where a work request stands on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReceipt {
    /// The node.
    pub node: NodeName,
    /// The work request.
    pub work_id: WorkId,
}

/// A work request that a node will not do, such as one of an older epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRefused {
    /// The node.
    pub node: NodeName,
    /// The work request.
    pub work_id: WorkId,
    /// Why.
    pub reason: String,
}

/// A picture that was compared and put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The node.
    pub node: NodeName,
    /// The store whose picture it was.
    pub store: StoreIncarnation,
    /// Which picture: its [`Assignments::as_of`](super::Assignments::as_of).
    pub as_of: i64,
}

/// A revision that a node should have and has no record of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionMissing {
    /// The node.
    pub node: NodeName,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The revision.
    pub revision_id: RevisionId,
    /// The attempt that the picture named.
    pub epoch: i32,
    /// Whether containers of it are there, to be taken up again ([`WorkAction::Adopt`]); without
    /// them it is to be deployed again.
    ///
    /// [`WorkAction::Adopt`]: super::WorkAction::Adopt
    pub adoptable: bool,
}

/// A deployment of which nothing but volumes is left on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRemoved {
    /// The node.
    pub node: NodeName,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// As of which picture: a later placement there makes this void.
    pub as_of: i64,
}

/// Where a revision stands, as its node saw it. `(revision, epoch, seq)` is applied once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node that saw it.
    pub node: NodeName,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The revision.
    pub revision_id: RevisionId,
    /// The attempt that the node acts for.
    pub epoch: i32,
    /// Rises by one with each report of this revision and epoch, from 1.
    pub seq: i32,
    /// Where the revision stands.
    pub status: ApplicationStatus,
    /// Why, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<FailureReason>,
    /// What a person should know, at most 16 KiB; control characters are already escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When, by the node's clock.
    pub at: DateTime<Utc>,
    /// What the node learnt since its last report.
    #[serde(default)]
    pub facts: ReportFacts,
}

/// What a node learnt. Absent means unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportFacts {
    /// The commit that was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The digest of the image that was pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// SHA-256 of everything that decides what runs, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// The resolved spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<DeploymentSpec>>,
    /// Every host port that the deployment uses on this node now; what it was offered beyond these
    /// goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<LeasedPort>>,
    /// Every service of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceFacts>>,
}

/// A host port in use for a container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeasedPort {
    /// The port on the node.
    pub port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The service.
    pub service: ServiceName,
}

/// How one service of a revision is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// The service.
    pub name: ServiceName,
    /// How it stands: `RUNNING`, `DEGRADED`, `STOPPED`, `STARTING` or `FAILED`.
    pub status: ApplicationStatus,
    /// The image that it runs, by the engine's id.
    pub image: String,
    /// The container, by the engine's id.
    pub container: Option<String>,
    /// How often the engine restarted it since it was created.
    pub restarts: u32,
}
