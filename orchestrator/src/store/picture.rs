//! Everything that the rows say, at once: for an oracle that compares it with the world.

use super::{Store, StoreError};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, RevisionId, WorkId};
use shared::name::{DeploymentName, NodeName};
use shared::status::{ApplicationStatus, DesiredState, FailureReason, NodeStatus};

/// Everything that the rows say.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Every deployment, also destroyed ones.
    pub deployments: Vec<DeploymentRow>,
    /// Every revision, oldest first in each deployment.
    pub revisions: Vec<RevisionRow>,
    /// Every event, in order in each revision.
    pub events: Vec<EventRow>,
    /// Every work request, oldest first.
    pub work: Vec<WorkRow>,
    /// Every leased port.
    pub leases: Vec<LeaseRow>,
    /// Every node.
    pub nodes: Vec<NodeRow>,
}

/// A deployment.
#[derive(Clone, Debug, FromQueryResult)]
pub struct DeploymentRow {
    /// Its identity.
    pub id: DeploymentId,
    /// Its name.
    pub name: DeploymentName,
    /// What was wished for it last.
    pub desired_state: DesiredState,
    /// The node that it is placed on.
    pub node_id: Option<NodeId>,
    /// The revision that serves, or did last.
    pub active_revision_id: Option<RevisionId>,
}

/// A revision.
#[derive(Clone, Debug, FromQueryResult)]
pub struct RevisionRow {
    /// Its identity.
    pub id: RevisionId,
    /// Its deployment.
    pub deployment_id: DeploymentId,
    /// Its number within the deployment.
    pub number: i32,
    /// Where it stands.
    pub status: ApplicationStatus,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
    /// What a person should know.
    pub status_detail: Option<String>,
    /// The attempt.
    pub epoch: i32,
    /// The node that has it.
    pub node_id: Option<NodeId>,
    /// The commit or digest, once it is known.
    pub source_version: Option<String>,
    /// The number of its last event.
    pub last_event_seq: i32,
}

/// A step of a revision.
#[derive(Clone, Debug, FromQueryResult)]
pub struct EventRow {
    /// The revision.
    pub revision_id: RevisionId,
    /// Its number within the revision.
    pub seq: i32,
    /// The attempt.
    pub epoch: i32,
    /// Where the revision stood from then on.
    pub status: ApplicationStatus,
}

/// A work request.
#[derive(Clone, Debug, FromQueryResult)]
pub struct WorkRow {
    /// Its identity.
    pub id: WorkId,
    /// The node that is asked.
    pub node_id: NodeId,
    /// The revision that it is about.
    pub revision_id: RevisionId,
    /// What is asked for, as the row says it.
    pub kind: String,
    /// Whether the node has it.
    pub is_accepted: bool,
    /// Whether it came to its end.
    pub is_finished: bool,
    /// Why it was refused.
    pub refused_reason: Option<String>,
}

/// A leased port.
#[derive(Clone, Debug, FromQueryResult)]
pub struct LeaseRow {
    /// The node.
    pub node_id: NodeId,
    /// The port on it.
    pub port: i32,
    /// The deployment that has it.
    pub deployment_id: DeploymentId,
    /// `RESERVED` or `HELD`.
    pub state: String,
}

/// A node.
#[derive(Clone, Debug, FromQueryResult)]
pub struct NodeRow {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it takes work.
    pub status: NodeStatus,
}

impl Store {
    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn picture(&self) -> Result<Picture, StoreError> {
        let db = self.reader();
        let all = |text| self.sql(text);
        Ok(Picture {
            deployments: all("SELECT id, name, desired_state, node_id, active_revision_id FROM deployments ORDER BY id")
                .all(db)
                .await?,
            revisions: all(
                "SELECT id, deployment_id, number, status, failure_reason, status_detail, epoch, node_id, source_version, last_event_seq FROM revisions \
                 ORDER BY deployment_id, number",
            )
            .all(db)
            .await?,
            events: all("SELECT revision_id, seq, epoch, status FROM revision_events ORDER BY revision_id, seq")
                .all(db)
                .await?,
            work: all(
                "SELECT id, node_id, revision_id, kind, accepted_at IS NOT NULL AS is_accepted, \
                 finished_at IS NOT NULL AS is_finished, refused_reason FROM work_requests ORDER BY id",
            )
            .all(db)
            .await?,
            leases: all("SELECT node_id, port, deployment_id, state FROM port_leases ORDER BY node_id, port")
                .all(db)
                .await?,
            nodes: all("SELECT id, name, status FROM nodes ORDER BY name").all(db).await?,
        })
    }
}
