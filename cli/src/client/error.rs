//! What can go wrong between a command and the server.

use crate::output;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing answers there.
    #[error("no connection to {url}")]
    NoConnection {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection was there and ended.
    #[error("the connection to {url} was lost: {reason}")]
    Lost { url: String, reason: String },
    /// Something answers that is not the API.
    #[error("what answers at {url} is not a Longshore server ({found})")]
    NotLongshore { url: String, found: String },
    /// The server does not know the token, or the caller may not do this.
    #[error("not allowed at {url}: {message}")]
    NotAllowed { url: String, message: String },
    /// The server refused, with its code and words.
    #[error("{message}")]
    Refused { code: String, message: String },
    /// The server answers in a form that this release does not understand.
    #[error("the server's answer is not understood: {0}")]
    NotUnderstood(#[source] serde_json::Error),
}

impl ClientError {
    /// From the code and message of a GraphQL error; the message is made harmless.
    pub(super) fn of_graphql(url: &str, code: &str, message: &str) -> Self {
        let message = output::lines(message).collect::<Vec<_>>().join("\n");
        match code {
            "UNAUTHENTICATED" | "FORBIDDEN" => Self::NotAllowed {
                url: url.to_owned(),
                message,
            },
            _ => Self::Refused {
                code: output::line(code),
                message,
            },
        }
    }

    /// No connection, or not allowed: exit code 6.
    pub(crate) fn is_no_access(&self) -> bool {
        match self {
            Self::NoConnection { .. }
            | Self::Lost { .. }
            | Self::NotLongshore { .. }
            | Self::NotAllowed { .. } => true,
            Self::Refused { code, .. } => code == "UNAVAILABLE",
            Self::NotUnderstood(_) => false,
        }
    }

    /// Whether the same request can succeed later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NoConnection { .. } | Self::Lost { .. } => true,
            // A proxy in front of a server that restarts.
            Self::NotLongshore { found, .. } => found.starts_with("HTTP 5"),
            Self::Refused { code, .. } => code == "UNAVAILABLE",
            Self::NotAllowed { .. } | Self::NotUnderstood(_) => false,
        }
    }

    /// Whether the server says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NOT_FOUND")
    }

    /// Whether the server says that something stands in the way that is there already.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "CONFLICT")
    }

    /// What to do next.
    pub(crate) fn advice(&self) -> Option<String> {
        let advice = match self {
            Self::NoConnection { .. } => {
                "is it running (`longshore standalone`)? Its address is taken from --url or LONGSHORE_URL"
            }
            Self::Lost { .. } => "try again; what was asked for goes on by itself",
            Self::NotLongshore { .. } => "check --url or LONGSHORE_URL",
            Self::NotAllowed { .. } => {
                "set LONGSHORE_TOKEN (or --token-file) to the server's admin token; a standalone server keeps it in <data-dir>/admin-token"
            }
            Self::Refused { code, .. } => match code.as_str() {
                "UNAVAILABLE" => "the server cannot reach what it needs; its /readyz says what",
                _ => return None,
            },
            Self::NotUnderstood(_) => "use a client of the server's own release",
        };
        Some(advice.to_owned())
    }
}
