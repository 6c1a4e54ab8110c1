//! Why the store did not do something.

use sea_orm::{DbErr, RuntimeErr, sqlx};
use std::time::Duration;

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database that is known here.
    #[error(
        "`{shown}` is not a database URL: give postgres://user:password@host/name or sqlite:///absolute/path"
    )]
    Url {
        /// The URL without credentials.
        shown: String,
    },
    /// Nobody waits for the database any longer.
    #[error("stopped while waiting for the database")]
    Stopped,
    /// No answer in time.
    #[error("the database did not answer within {} s", waited.as_secs())]
    Silent {
        /// How long it had.
        waited: Duration,
    },
    /// What the database, or the way to it, said.
    #[error("the database did not do it")]
    Database(#[from] DbErr),
    /// A row that contradicts the others: a fault of ours or of somebody who wrote by hand.
    #[error("the rows contradict each other: {what}")]
    Inconsistent {
        /// What does not fit.
        what: String,
    },
}

impl StoreError {
    /// Whether trying again later can help without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Stopped | Self::Inconsistent { .. } => false,
            Self::Silent { .. } => true,
            Self::Database(error) => match error {
                DbErr::ConnectionAcquire(_) => true,
                DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause) => {
                    runtime_is_transient(cause)
                }
                _ => false,
            },
        }
    }
}

fn runtime_is_transient(error: &RuntimeErr) -> bool {
    match error {
        RuntimeErr::SqlxError(error) => sqlx_is_transient(error),
        _ => false,
    }
}

fn sqlx_is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // A connection that died half-way through a message.
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code_is_transient(&code)),
        _ => false,
    }
}

/// Postgres: connection trouble, too many clients, conflicts between transactions, shutdown and
/// start-up. SQLite: busy, locked, a disk that failed, a file that cannot be opened now.
fn code_is_transient(code: &str) -> bool {
    match code.len() {
        5 => {
            ["08", "53", "40", "57P"]
                .iter()
                .any(|class| code.starts_with(class))
                // Too long for a lock, a statement, or between two statements.
                || matches!(code, "55P03" | "57014" | "25P03")
        }
        _ => code
            .parse::<u32>()
            .is_ok_and(|number| matches!(number & 0xff, 5 | 6 | 10 | 14)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_pass_by_themselves() {
        for code in [
            "08006", "53300", "40001", "40P01", "57P01", "57P03", "55P03", "57014", "25P03", "5",
            "261", "6", "14",
        ] {
            assert!(code_is_transient(code), "{code}");
        }
        for code in [
            "23505", "42P01", "28P01", "22021", "1", "19", "2067", "11", "",
        ] {
            assert!(!code_is_transient(code), "{code}");
        }
    }
}
