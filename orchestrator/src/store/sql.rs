//! Statements that both databases read alike, written as SQL where that says more than a builder.
//!
//! Both know `$1` placeholders, `RETURNING`, `UPDATE … FROM (VALUES …)` and the names `column1`,
//! `column2`… for the columns of `VALUES`. What differs is here: the clock and row locks.

use super::StoreError;
use super::column::now;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};
use std::time::Duration;

/// How many rows go into one statement: enough to be worth it, far below what either database can bind.
pub(crate) const ROWS_AT_ONCE: usize = 500;

/// A statement being written, with its values.
pub(crate) struct Sql {
    backend: DbBackend,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(backend: DbBackend, text: &str) -> Self {
        Self {
            backend,
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    /// Goes on with this text.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// A value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// `($1, $2, …)`; there must be at least one.
    pub(crate) fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.text.push('(');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self = self.bind(value);
        }
        self.text.push(')');
        self
    }

    /// `(VALUES ($1, $2), ($3, $4)) AS v`; there must be at least one row.
    pub(crate) fn rows<const N: usize>(
        mut self,
        rows: impl IntoIterator<Item = [Value; N]>,
    ) -> Self {
        self.text.push_str("(VALUES ");
        for (index, row) in rows.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self = self.list(row);
        }
        self.text.push_str(") AS v");
        self
    }

    /// Now, by the clock that leases are judged by: the database's where several processes share
    /// it, this process' where it is the only one.
    pub(crate) fn now(self) -> Self {
        match self.backend {
            DbBackend::Postgres => self.push("clock_timestamp()"),
            _ => self.bind(now()),
        }
    }

    /// That long from now.
    pub(crate) fn later(self, duration: Duration) -> Self {
        match self.backend {
            DbBackend::Postgres => self
                .push("clock_timestamp() + make_interval(secs => ")
                .bind(duration.as_secs_f64())
                .push(")"),
            _ => self.bind(now() + duration),
        }
    }

    /// That long ago.
    pub(crate) fn earlier(self, duration: Duration) -> Self {
        match self.backend {
            DbBackend::Postgres => self
                .push("clock_timestamp() - make_interval(secs => ")
                .bind(duration.as_secs_f64())
                .push(")"),
            _ => self.bind(now() - duration),
        }
    }

    /// Locks the rows of this table until the transaction ends. Keys never change, so whoever only
    /// refers to a row does not wait. SQLite has one writer anyway.
    pub(crate) fn locked(self, table: &str) -> Self {
        match self.backend {
            DbBackend::Postgres => self.push(&format!(" FOR NO KEY UPDATE OF {table}")),
            _ => self,
        }
    }

    /// The same, leaving out rows that somebody else has locked.
    pub(crate) fn locked_or_skipped(self, table: &str) -> Self {
        match self.backend {
            DbBackend::Postgres => self.push(&format!(" FOR NO KEY UPDATE OF {table} SKIP LOCKED")),
            _ => self,
        }
    }

    /// Runs it; how many rows it changed.
    pub(crate) async fn run(self, db: &impl ConnectionTrait) -> Result<u64, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend, self.text, self.values);
        Ok(db.execute_raw(statement).await?.rows_affected())
    }

    /// Runs it and reads what it returns.
    pub(crate) async fn all<T: FromQueryResult>(
        self,
        db: &impl ConnectionTrait,
    ) -> Result<Vec<T>, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend, self.text, self.values);
        let rows = db.query_all_raw(statement).await?;
        Ok(rows
            .iter()
            .map(|row| T::from_query_result(row, ""))
            .collect::<Result<_, _>>()?)
    }
}
