//! What parent and child say to each other, one JSON object a line. Both are the same binary, so
//! there are no versions.

use super::error::FetchError;
use super::order::FetchOrder;
use serde::{Deserialize, Serialize};
use shared::source::CommitId;
use shared::spec::DeploymentSpec;
use std::path::PathBuf;

/// The longest line that the parent reads. A configuration has at most 256 KiB.
pub(super) const LINE_LIMIT: usize = 4 << 20;

/// From the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// First: fetch, count and read.
    Fetch(Box<FetchOrder>),
    /// Then, perhaps: write the build context into this file.
    WriteContext {
        /// The file; it is made anew.
        to: PathBuf,
    },
}

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Say {
    /// The mirror is ours: the time of the fetch starts to count.
    Started,
    /// A server is to be asked over TLS, and there are no certificates to know it by: the same order
    /// to a child that has them. Nothing follows.
    CertificatesNeeded,
    /// A line for the log.
    Log {
        /// The line.
        text: String,
    },
    /// The commit that was asked for is here.
    Found {
        /// Which.
        commit: CommitId,
    },
    /// Something moved.
    Progress(Progress),
    /// Everything is known and vetted.
    Prepared(Box<Prepared>),
    /// The build context is written.
    Written(Written),
    /// It failed. Nothing follows.
    Failed(FetchError),
}

/// How far a fetch is. Only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Bytes received from servers.
    pub(super) bytes: u64,
    /// Objects received.
    pub(super) objects: u64,
    /// Objects that the server announced.
    pub(super) total_objects: u64,
    /// Steps of local work: files counted and written.
    pub(super) work: u64,
}

/// What a fetch found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) commit: CommitId,
    pub(super) spec: DeploymentSpec,
    pub(super) warnings: Vec<String>,
    pub(super) content_hash: String,
}

/// What was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) dockerfile: String,
    pub(super) bytes: u64,
    pub(super) files: u64,
}
