//! What orchestrator and nodes tell each other, as versioned JSON.
//!
//! A body carries a list ([`Batch`]): whatever became due within a few milliseconds for the same
//! queue travels in one message, and each item keeps its own identity and is applied once.
//! Unknown fields are ignored, so that old and new nodes work side by side; an unknown type or
//! version is refused, never guessed.

mod assignments;
mod each;
mod items;
mod report;
mod telemetry;
mod work;

pub use assignments::{Assigned, Assignments};
pub use report::{
    DeploymentRemoved, LeasedPort, NodeReport, Reconciled, ReportFacts, RevisionMissing,
    ServiceFacts, StatusReport, WorkReceipt, WorkRefused,
};
pub use telemetry::{
    Capacity, Heartbeat, Holds, LOG_TRY, Load, LogLine, LogSource, LogSubject, TelemetryItem,
    TelemetryTopic,
};
pub use work::{
    AdoptWork, DeployWork, PortOffer, ServiceSelection, WorkAction, WorkItem, WorkRequest,
};

pub use each::{BadItem, bad_items, decode_each};

use items::Items;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of every body that this release writes.
pub const WIRE_VERSION: u16 = 1;

/// The largest body that is read, in bytes. Larger ones go to `dead` unread.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The most items of a body that are read. Ours have some hundreds; a small item of a stranger's takes
/// many times its bytes in memory.
pub const ITEMS_LIMIT: usize = 10_000;

/// How a body of [`WIRE_VERSION`] begins as [`encode`] writes it.
const CURRENT: &[u8] = b"{\"v\":1,";

#[derive(Serialize)]
struct Batch<T> {
    v: u16,
    items: Vec<T>,
}

/// A batch as it is read.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct ReadBatch<T> {
    // Wanted, and judged before: see `check`.
    #[serde(rename = "v")]
    _v: u16,
    items: Items<T>,
}

#[derive(Deserialize)]
struct Version {
    v: u16,
}

/// Why a body was refused. The delivery goes to `dead` with this text.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Larger than [`BODY_LIMIT`].
    #[error("the body has {size} bytes, more than {BODY_LIMIT}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Has more than [`ITEMS_LIMIT`] items.
    #[error("the body has {count} items, more than {ITEMS_LIMIT}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not JSON of the expected form.
    #[error("the body is not a batch of the expected form")]
    Malformed(#[source] serde_json::Error),
    /// Written by a release that this one does not understand.
    #[error("the body has version {found}; this release reads version {WIRE_VERSION}")]
    Version {
        /// The version it names.
        found: u16,
    },
}

/// Writes items as one body.
#[must_use]
pub fn encode<T: Serialize>(items: &[T]) -> Vec<u8> {
    // Our own types have string keys and finite numbers only: nothing in them that JSON refuses.
    serde_json::to_vec(&Batch {
        v: WIRE_VERSION,
        items: items.iter().collect(),
    })
    .unwrap_or_default()
}

/// Reads the items of one body.
///
/// # Errors
/// [`DecodeError`] for a body that is too large, has too many items, is malformed or of another
/// version.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, DecodeError> {
    check(body)?;
    let batch: ReadBatch<T> = serde_json::from_slice(body).map_err(DecodeError::Malformed)?;
    batch.items.bounded()
}

/// Whether a body may be read at all: its size and its version.
fn check(body: &[u8]) -> Result<(), DecodeError> {
    if body.len() > BODY_LIMIT {
        return Err(DecodeError::TooLarge { size: body.len() });
    }
    // Our own bodies begin with their version, and are then read once and not twice; a second
    // version further on would be refused.
    if !body.starts_with(CURRENT) {
        let version: Version = serde_json::from_slice(body).map_err(DecodeError::Malformed)?;
        if version.v != WIRE_VERSION {
            return Err(DecodeError::Version { found: version.v });
        }
    }
    Ok(())
}

/// What orchestrators tell each other on `events`: rows that changed, so that every replica's
/// subscriptions hear them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChangeEvent {
    /// A step of a revision was recorded.
    Status(StatusEvent),
    /// A node's row changed: status, capacity or running count.
    Node {
        /// The node.
        node_id: crate::id::NodeId,
    },
}

/// A change as one orchestrator tells the others of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who tells: it has heard its own words before.
    pub origin: crate::id::OrchestratorId,
    /// What changed.
    pub event: ChangeEvent,
}

/// One recorded step of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusEvent {
    /// The deployment.
    pub deployment_id: crate::id::DeploymentId,
    /// The revision.
    pub revision_id: crate::id::RevisionId,
    /// The revision's number within its deployment, from 1.
    pub revision: i32,
    /// The attempt that the step belongs to.
    pub epoch: i32,
    /// Rises by one with each step of the revision, from 1.
    pub seq: i32,
    /// Where the revision stands since this step.
    pub status: crate::status::ApplicationStatus,
    /// Why, when it failed.
    pub failure_reason: Option<crate::status::FailureReason>,
    /// What a person should know.
    pub detail: Option<String>,
    /// When, by the clock of whoever saw it.
    pub at: chrono::DateTime<chrono::Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back() {
        let body = encode(&[1, 2, 3]);
        assert_eq!(decode::<i32>(&body).unwrap(), [1, 2, 3]);
        assert!(body.starts_with(CURRENT));
        assert!(matches!(
            decode::<i32>(b"{\"v\":1,\"items\":[],\"v\":2}"),
            Err(DecodeError::Malformed(_))
        ));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let cases: [&[u8]; 7] = [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"{\"v\":1}",
            b"{\"v\":1,\"items\":[\"x\"]}",
            b"{\"v\":99999,\"items\":[]}",
        ];
        for body in cases {
            assert!(
                matches!(decode::<i32>(body), Err(DecodeError::Malformed(_))),
                "{body:?}"
            );
        }
        assert!(matches!(
            decode::<i32>(b"{\"v\":2,\"items\":[]}"),
            Err(DecodeError::Version { found: 2 })
        ));
        assert!(matches!(
            decode::<i32>(&vec![b' '; BODY_LIMIT + 1]),
            Err(DecodeError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_field_of_a_newer_release_is_ignored() {
        assert_eq!(
            decode::<i32>(b"{\"v\":1,\"items\":[7],\"trace\":\"x\"}").unwrap(),
            [7]
        );
    }
}
