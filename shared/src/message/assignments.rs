//! The whole picture: everything that one node should have, as the store saw it at one moment.
//!
//! A node is told it when it connects and every minute from then on. It is no order and no row: a
//! lost one is followed by another, and a late one does no harm. What a node has and the picture does
//! not name, or names with a newer attempt, is not meant to be there, unless the node was given it
//! after the picture was made ([`Assignments::as_of`]).

use crate::id::{DeploymentId, RevisionId, StoreIncarnation};
use crate::name::{DeploymentName, NodeName};
use crate::status::ApplicationStatus;
use serde::{Deserialize, Serialize};

/// Everything that one node should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    /// The store that says so; another one than before means that it was restored.
    pub store: StoreIncarnation,
    /// The node.
    pub node: NodeName,
    /// The last placement on this node that the picture knows of: the highest
    /// [`DeployWork::given`](super::DeployWork::given).
    pub as_of: i64,
    /// Every revision of the node that has not come to its end, in the order of their ids.
    pub revisions: Vec<Assigned>,
}

/// One revision that a node should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub deployment_name: DeploymentName,
    /// The revision.
    pub revision_id: RevisionId,
    /// Its number within the deployment.
    pub revision: i32,
    /// The attempt; every older one is not meant to be there.
    pub epoch: i32,
    /// The last report of this epoch that is applied.
    pub last_report_seq: i32,
    /// Where the store has it. A node that sees it elsewhere says so again.
    pub status: ApplicationStatus,
    /// Whether the deployment is being destroyed: an order for that is on its way.
    #[serde(default)]
    pub destroying: bool,
}
