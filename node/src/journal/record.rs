//! What the journal remembers, one type a table.

use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use shared::id::{DeploymentId, RevisionId};
use shared::message::{LeasedPort, WorkRequest};
use shared::name::{DeploymentName, ServiceName};
use shared::source::{CommitId, GitUrl, ImageDigest};
use shared::spec::DeploymentSpec;
use shared::status::{ApplicationStatus, FailureReason};
use std::net::Ipv4Addr;

/// An accepted work request that has not come to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkEntry {
    /// Its place in the order of arrival.
    pub arrival: u64,
    /// How often its action was begun before.
    pub attempts: u32,
    /// What to do.
    pub request: WorkRequest,
}

/// One attempt at one revision of a deployment: what containers are labelled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// The revision's number.
    pub revision: i32,
    /// The attempt's number.
    pub epoch: i32,
}

/// How far a revision's reports have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The newest attempt that this node heard of.
    pub epoch: i32,
    /// The last report's number within the attempt.
    pub last_seq: i32,
    /// What it said.
    pub status: Option<ApplicationStatus>,
    /// Why, when it said that the revision failed.
    #[serde(default)]
    pub failure_reason: Option<FailureReason>,
    /// The beginning of what it told people, to be told again when the report was lost.
    #[serde(default)]
    pub detail: Option<String>,
}

/// What this node has of one deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub name: DeploymentName,
    /// The repository that it is fetched from, whose mirror is kept while a deployment uses it.
    pub repository: Option<GitUrl>,
    /// The revision that serves, or did until it was stopped.
    pub current: Option<RunningRevision>,
    /// Attempts that were replaced and whose containers are on their way out.
    #[serde(default)]
    pub retiring: Vec<Attempt>,
    /// The names of images that were built for it, or are being built, the newest last.
    #[serde(default)]
    pub images: Vec<String>,
}

/// As it was once written, with the image's name.
fn digest<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<ImageDigest>, D::Error> {
    let version = Option::<String>::deserialize(reader)?;
    let digest = version.map(|version| ImageDigest::of_version(&version));
    digest.transpose().map_err(D::Error::custom)
}

/// A revision that was verified on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningRevision {
    /// The revision.
    pub revision_id: RevisionId,
    /// Its number and attempt.
    pub attempt: Attempt,
    /// The commit that it was built from.
    pub commit: Option<CommitId>,
    /// The digest of the image that was pulled.
    #[serde(default, deserialize_with = "digest")]
    pub image_digest: Option<ImageDigest>,
    /// SHA-256 of everything that decides what runs.
    pub content_hash: String,
    /// What runs.
    pub spec: DeploymentSpec,
    /// The host ports that it is reached by.
    pub ports: Vec<LeasedPort>,
    /// Its services, in the order of the spec.
    pub services: Vec<RunningService>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Which of the node's placements it is; 0 when that is not known, which is older than any.
    #[serde(default)]
    pub given: i64,
}

/// One service of a [`RunningRevision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningService {
    /// Its name.
    pub name: ServiceName,
    /// Its container, by the engine's id.
    pub container: String,
    /// Its image, by the engine's id.
    pub image: String,
    /// Its container's own address on the deployment's network.
    pub address: Option<Ipv4Addr>,
    /// Stopped on request.
    #[serde(default)]
    pub stopped: bool,
}

impl RunningRevision {
    /// Whether every service was stopped on request.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.services.iter().all(|service| service.stopped)
    }
}

impl DeploymentRecord {
    /// A deployment of which nothing runs yet.
    #[must_use]
    pub const fn new(deployment_id: DeploymentId, name: DeploymentName) -> Self {
        Self {
            deployment_id,
            name,
            repository: None,
            current: None,
            retiring: Vec::new(),
            images: Vec::new(),
        }
    }
}
