//! How a command ends: the exit codes that scripts rely on, and what a person reads.

use crate::client::ClientError;

/// What `longshore --help` says of exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of client commands:
  0  done; with --wait: RUNNING
  1  wrong input, or the server refused for a reason that is named
  2  the new revision failed, the one before it still serves
  3  the new revision failed and nothing serves
  4  the revision was cancelled, or superseded by a newer one
  5  --timeout passed before it was decided; it goes on
  6  no connection to the server, or not allowed";

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Refused,
    StillServing,
    NothingServes,
    Replaced,
    TimedOut,
    NoAccess,
}

impl Exit {
    /// As the process ends.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::StillServing => 2,
            Self::NothingServes => 3,
            Self::Replaced => 4,
            Self::TimedOut => 5,
            Self::NoAccess => 6,
        }
    }
}

/// Why a command could not do what was asked: what was wrong, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    what: String,
    pub(crate) advice: Option<String>,
}

impl Failure {
    /// Something that was given is not right.
    pub(crate) fn input(what: impl Into<String>) -> Self {
        Self {
            exit: Exit::Refused,
            what: what.into(),
            advice: None,
        }
    }

    /// With what to do next.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = if error.is_no_access() {
            Exit::NoAccess
        } else {
            Exit::Refused
        };
        Self {
            exit,
            advice: error.advice(),
            what: chain(&error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever reads has enough, such as `| head`.
        let is_enough = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self {
            exit: if is_enough { Exit::Done } else { Exit::Refused },
            what: format!("writing the output: {error}"),
            advice: None,
        }
    }
}

/// An error with its causes, outermost first.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
