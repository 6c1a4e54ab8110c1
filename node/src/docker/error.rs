//! What can go wrong between the node and its container engine, in words that callers choose by.

use crate::text::{clean_line, clean_lines, cut};
use bollard::errors::Error as ClientError;

/// The longest text of an engine that is passed on, in bytes.
const TEXT_LIMIT: usize = 2 * 1024;

/// Why the engine did not do what it was asked. Texts of the engine in it are cleaned and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No engine answers: not started, restarting, unreachable, or the address is wrong.
    #[error("{doing}: the container engine does not answer: {detail}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What the attempt ended with.
        detail: String,
    },
    /// What was asked about does not exist.
    #[error("{doing}: {message}")]
    NotFound {
        /// What was being done.
        doing: &'static str,
        /// The engine's words.
        message: String,
    },
    /// A name is taken, or the thing is in use or in another state.
    #[error("{doing}: {message}")]
    Conflict {
        /// What was being done.
        doing: &'static str,
        /// The engine's words.
        message: String,
    },
    /// A host port is bound by something else.
    #[error("{doing}: {message}")]
    PortTaken {
        /// What was being done.
        doing: &'static str,
        /// The port, when the engine named it.
        port: Option<u16>,
        /// The engine's words.
        message: String,
    },
    /// The engine's disk is full.
    #[error("{doing}: no space left on the engine's disk: {message}")]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// The engine's words.
        message: String,
    },
    /// A pool of addresses is used up.
    #[error("{doing}: {what} is used up")]
    Exhausted {
        /// What was being done.
        doing: &'static str,
        /// The pool.
        what: String,
    },
    /// The engine said no.
    #[error("{doing}: {message}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The HTTP status; 0 when it came in the middle of a stream.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine took longer than this call may take.
    #[error("{doing}: the container engine did not answer in time")]
    Timeout {
        /// What was being done.
        doing: &'static str,
    },
    /// The engine's answer could not be read.
    #[error("{doing}: the container engine's answer could not be read: {detail}")]
    Garbled {
        /// What was being done.
        doing: &'static str,
        /// Where reading it failed.
        detail: String,
    },
}

impl EngineError {
    /// Whether the same call may succeed a little later without anything being changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Timeout { .. } => true,
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::PortTaken { .. }
            | Self::NoSpace { .. }
            | Self::Exhausted { .. }
            | Self::Refused { .. }
            | Self::Garbled { .. } => false,
        }
    }

    /// From what the client says while `doing`.
    pub(super) fn from_client(doing: &'static str, error: ClientError) -> Self {
        match error {
            ClientError::DockerResponseServerError {
                status_code,
                message,
            } => Self::from_engine(doing, status_code, &message),
            ClientError::DockerStreamError { error } => Self::from_engine(doing, 0, &error),
            ClientError::DockerContainerWaitError { error, .. } => {
                Self::from_engine(doing, 0, &error)
            }
            ClientError::RequestTimeoutError => Self::Timeout { doing },
            ClientError::JsonDataError { message, .. } => Self::Garbled {
                doing,
                detail: shown(&message),
            },
            ClientError::JsonSerdeError { err } => Self::Garbled {
                doing,
                detail: shown(&err.to_string()),
            },
            ClientError::StrParseError { err } => Self::Garbled {
                doing,
                detail: shown(&err.to_string()),
            },
            other => Self::Unavailable {
                doing,
                detail: shown(&with_causes(&other)),
            },
        }
    }

    /// From an answer of the engine.
    pub(super) fn from_engine(doing: &'static str, status: u16, message: &str) -> Self {
        let message = shown(message);
        if message.contains("port is already allocated")
            || message.contains("address already in use")
        {
            return Self::PortTaken {
                doing,
                port: named_port(&message),
                message,
            };
        }
        if message.contains("no space left on device") {
            return Self::NoSpace { doing, message };
        }
        match status {
            404 => Self::NotFound { doing, message },
            409 => Self::Conflict { doing, message },
            _ => Self::Refused {
                doing,
                status,
                message,
            },
        }
    }
}

/// A text of the engine or a container that is safe to show.
pub(super) fn shown(text: &str) -> String {
    cut(&clean_lines(text), TEXT_LIMIT)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = clean_line(&inner.to_string());
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// The host port in `Bind for 0.0.0.0:8080 failed: port is already allocated` and its like.
fn named_port(message: &str) -> Option<u16> {
    let after = message
        .split("0.0.0.0:")
        .nth(1)
        .or_else(|| message.split("[::]:").nth(1))?;
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    after[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_apart_from_other_refusals() {
        let text = "driver failed programming external connectivity on endpoint x: \
                    Bind for 0.0.0.0:8080 failed: port is already allocated";
        let error = EngineError::from_engine("starting a container", 500, text);
        assert!(
            matches!(
                error,
                EngineError::PortTaken {
                    port: Some(8080),
                    ..
                }
            ),
            "{error:?}"
        );
        let text = "listen tcp4 0.0.0.0:81: bind: address already in use";
        let error = EngineError::from_engine("starting a container", 500, text);
        assert!(
            matches!(error, EngineError::PortTaken { port: Some(81), .. }),
            "{error:?}"
        );
    }

    #[test]
    fn the_status_decides_the_rest() {
        let kinds = [
            (404, "NotFound"),
            (409, "Conflict"),
            (400, "Refused"),
            (500, "Refused"),
        ];
        for (status, kind) in kinds {
            let error = EngineError::from_engine("x", status, "no");
            assert!(
                format!("{error:?}").starts_with(kind),
                "{status}: {error:?}"
            );
        }
        let full = EngineError::from_engine("x", 500, "write /var/lib/x: no space left on device");
        assert!(matches!(full, EngineError::NoSpace { .. }));
    }

    #[test]
    fn what_the_engine_says_cannot_reach_a_terminal_raw() {
        let error = EngineError::from_engine("x", 500, &format!("\u{1b}[2J{}", "y".repeat(10_000)));
        let text = error.to_string();
        assert!(!text.contains('\u{1b}') && text.len() < 3 * 1024);
    }
}
