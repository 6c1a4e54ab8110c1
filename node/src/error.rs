//! Why a node does not start, or stops early.

use crate::journal::JournalError;
use std::path::PathBuf;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that cannot be meant: every mistake at once.
    #[error("the node's settings are wrong: {}", .mistakes.join("; "))]
    Settings {
        /// Each mistake with what would be right.
        mistakes: Vec<String>,
    },
    /// Another process has the state directory.
    #[error(
        "the state directory {} is in use by another node process{}: stop that one, or give this one a --state-dir of its own",
        .path.display(),
        .holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    StateDirInUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, as it wrote itself.
        holder: Option<String>,
    },
    /// The state directory cannot be made or written.
    #[error("the state directory {} cannot be used: {what}", .path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The journal in it cannot be used.
    #[error("the node's journal cannot be used")]
    Journal(#[from] JournalError),
    /// The container engine's client cannot be made: its address is wrong.
    #[error("the container engine's address cannot be used: {0}")]
    Engine(String),
}

/// Why a node stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The bus refuses this node for good.
    #[error("the bus refuses this node")]
    Bus(#[from] shared::bus::BusError),
    /// The journal was closed under it.
    #[error("the node's journal")]
    Journal(#[from] JournalError),
    /// One of its tasks ended early.
    #[error("a task of the node ended early")]
    Task(#[from] tokio::task::JoinError),
}
