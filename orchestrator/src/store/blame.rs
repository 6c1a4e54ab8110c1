//! Whether an error is the fault of what was to be written.

use super::StoreError;
use sea_orm::{DbErr, RuntimeErr};

impl StoreError {
    /// Whether the very same rows would be refused again by a database that is well: they break a
    /// constraint or do not fit. Anything else is the database's trouble, foreseen or not, such as
    /// one that takes no connections or is read-only; who waits loses nothing by it.
    #[must_use]
    pub fn is_about_the_data(&self) -> bool {
        match self {
            Self::Inconsistent { .. } => true,
            Self::Url { .. } | Self::Stopped | Self::Silent { .. } => false,
            Self::Database(DbErr::Exec(cause) | DbErr::Query(cause)) => match cause {
                RuntimeErr::SqlxError(error) => {
                    let code = error.as_database_error().and_then(|error| error.code());
                    code.is_some_and(|code| blames_the_data(&code))
                }
                _ => false,
            },
            // A row that cannot be read back, or a value without a form in the database.
            Self::Database(DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. }) => true,
            Self::Database(_) => false,
        }
    }
}

/// Postgres: data exceptions and broken constraints. SQLite: too big, constraint, mismatch.
fn blames_the_data(code: &str) -> bool {
    match code.len() {
        5 => code.starts_with("22") || code.starts_with("23"),
        _ => code
            .parse::<u32>()
            .is_ok_and(|number| matches!(number & 0xff, 18..=20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_data_did_is_blamed_on_it() {
        for code in ["22021", "22P05", "23505", "23503", "19", "2067", "20"] {
            assert!(blames_the_data(code), "{code}");
        }
        // No connections taken, read-only, statement cancelled, no such table, disk full; busy.
        for code in [
            "55000", "25006", "57014", "42P01", "53100", "08006", "5", "13", "",
        ] {
            assert!(!blames_the_data(code), "{code}");
        }
        assert!(
            StoreError::Inconsistent {
                what: "x".to_owned()
            }
            .is_about_the_data()
        );
    }
}
