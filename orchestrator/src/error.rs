//! Errors of the engine. [`CommandError`] is what a caller sees: a stable code, public words, and a
//! private cause that only the log gets.

use crate::store::StoreError;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Why a command or query was not done, in words for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What was named does not exist, or may not be seen.
    #[error("no {kind} {name}")]
    NotFound {
        /// What was looked for: `deployment`, `revision`, `node`.
        kind: &'static str,
        /// How it was named, safe to show.
        name: String,
    },
    /// What was given is not right.
    #[error("{field}: {message}")]
    InvalidInput {
        /// The field, as the API names it, with dots: `git.url`.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// What was asked for contradicts what is.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        message: String,
    },
    /// Who asks is not known.
    #[error("not signed in: {message}")]
    Unauthenticated {
        /// What would help.
        message: String,
    },
    /// Who asks may not do this.
    #[error("not allowed: {message}")]
    Forbidden {
        /// What is not allowed.
        message: String,
    },
    /// Something that is needed does not answer now; the same request may succeed later.
    #[error("{message}")]
    Unavailable {
        /// What does not answer, without private details.
        message: String,
        /// For the log.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A fault of ours.
    #[error("an internal error; the log says more")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CommandError {
    /// The stable code of the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::InvalidInput { .. } => "INVALID_INPUT",
            Self::Conflict { .. } => "CONFLICT",
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::Forbidden { .. } => "FORBIDDEN",
            Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Nothing of this kind goes by this name.
    #[must_use]
    pub fn not_found(kind: &'static str, name: impl Display) -> Self {
        Self::NotFound {
            kind,
            name: shared::name::shown(&name.to_string()),
        }
    }

    /// A field that is not right.
    #[must_use]
    pub fn invalid(field: &'static str, message: impl Display) -> Self {
        Self::InvalidInput {
            field,
            message: message.to_string(),
        }
    }

    /// What stands in the way.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<StoreError>> for CommandError {
    fn from(error: Arc<StoreError>) -> Self {
        if error.is_transient() {
            let message = "the database does not answer; try again shortly".to_owned();
            Self::Unavailable {
                message,
                source: Some(Box::new(error)),
            }
        } else {
            Self::Internal(Box::new(error))
        }
    }
}

/// Reads an id. A text that is no id names nothing, so the error is `NOT_FOUND`.
///
/// # Errors
/// [`CommandError::NotFound`].
pub fn parse_id<Id: FromStr>(kind: &'static str, text: &str) -> Result<Id, CommandError> {
    text.parse()
        .map_err(|_| CommandError::not_found(kind, text))
}

/// Why an orchestrator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database refused, or its schema could not be brought up to date.
    #[error("opening the database")]
    Store(#[from] StoreError),
}
