//! Why a fetch failed.

use crate::text::{clean_line, cut};
use serde::{Deserialize, Serialize};
use shared::status::FailureReason;

/// The longest detail in bytes.
const DETAIL_LIMIT: usize = 2000;

/// Why a fetch failed, in words for the user. Travels from the child to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum FetchError {
    /// Host, repository, ref or access: the server's words are in it.
    #[error("{detail}")]
    Failed {
        /// What happened.
        detail: String,
    },
    /// Beyond its time.
    #[error("the fetch took longer than {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// Nothing moved any more.
    #[error("the server sent nothing for {seconds} s")]
    Stalled {
        /// The limit.
        seconds: u64,
    },
    /// Beyond a limit of size.
    #[error("{detail}")]
    TooLarge {
        /// Which one.
        detail: String,
    },
    /// No configuration where it should be.
    #[error("{detail}")]
    ConfigMissing {
        /// Where was looked.
        detail: String,
    },
    /// The configuration asks for something impossible.
    #[error("{detail}")]
    ConfigInvalid {
        /// What, and what would be right.
        detail: String,
    },
    /// The configured Dockerfile is not in the repository.
    #[error("{detail}")]
    DockerfileMissing {
        /// Where was looked.
        detail: String,
    },
    /// Cancelled by the caller.
    #[error("cancelled")]
    Cancelled,
    /// The node itself could not do it: its disk, its memory, its processes.
    #[error("the node could not fetch: {detail}")]
    Node {
        /// What happened.
        detail: String,
    },
}

impl FetchError {
    /// The failure reason that the user sees.
    #[must_use]
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::Failed { .. }
            | Self::Timeout { .. }
            | Self::Stalled { .. }
            | Self::TooLarge { .. }
            | Self::Node { .. } => FailureReason::FetchFailed,
            Self::ConfigMissing { .. } => FailureReason::ConfigMissing,
            Self::ConfigInvalid { .. } => FailureReason::ConfigInvalid,
            Self::DockerfileMissing { .. } => FailureReason::DockerfileMissing,
            Self::Cancelled => FailureReason::Cancelled,
        }
    }

    pub(super) fn failed(detail: impl AsRef<str>) -> Self {
        Self::Failed {
            detail: plain(detail.as_ref()),
        }
    }

    pub(super) fn too_large(detail: impl AsRef<str>) -> Self {
        Self::TooLarge {
            detail: plain(detail.as_ref()),
        }
    }

    pub(super) fn config_missing(detail: impl AsRef<str>) -> Self {
        Self::ConfigMissing {
            detail: plain(detail.as_ref()),
        }
    }

    pub(super) fn config_invalid(detail: impl AsRef<str>) -> Self {
        Self::ConfigInvalid {
            detail: cut(&crate::text::clean_lines(detail.as_ref()), DETAIL_LIMIT),
        }
    }

    pub(super) fn dockerfile_missing(detail: impl AsRef<str>) -> Self {
        Self::DockerfileMissing {
            detail: plain(detail.as_ref()),
        }
    }

    /// The node's own trouble while doing `what`.
    pub(super) fn node(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Node {
            detail: plain(&format!("{what}: {error}")),
        }
    }
}

/// Somebody else's words, safe to show: one line, no control characters, not too long.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<String> = text
        .lines()
        .map(clean_line)
        .filter(|line| !line.trim().is_empty())
        .collect();
    cut(&words.join(" "), DETAIL_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_shown_and_not_obeyed() {
        let error = FetchError::failed("remote:\u{1b}[31m go\r\n\naway\u{7}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
        assert!(FetchError::failed("x".repeat(10_000)).to_string().len() <= DETAIL_LIMIT + 8);
    }

    #[test]
    fn an_error_reads_back() {
        for error in [
            FetchError::failed("x"),
            FetchError::Cancelled,
            FetchError::Stalled { seconds: 3 },
        ] {
            let json = serde_json::to_string(&error).unwrap();
            assert_eq!(serde_json::from_str::<FetchError>(&json).unwrap(), error);
        }
    }
}
