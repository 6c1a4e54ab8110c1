//! Statements that both databases read alike, written as SQL where that says more than a builder.
//!
//! Both know `$1` placeholders, `RETURNING`, `UPDATE … FROM` a table of values and the names `column1`,
//! `column2`… for its columns. What differs is here: the clock, row locks, and how many rows come as
//! values ([`Sql::rows`], [`Sql::insert`], [`Sql::one_of`]).

use super::column::{Time, now};
use super::{StoreError, Tx};
use sea_orm::sea_query::ArrayType;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, FromQueryResult,
    IdenStatic, Iterable, Statement, Value,
};
use std::fmt::Write;
use std::time::Duration;

/// How many rows go into one statement: enough to be worth it, far below what either database can bind.
pub(crate) const ROWS_AT_ONCE: usize = 500;

/// The columns of a row's table.
type Column<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;

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

    /// ` IN ($1, $2, …)` or ` IN (SELECT unnest($1))`; there must be at least one value.
    pub(crate) fn one_of<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Self {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        if self.backend == DbBackend::Postgres
            && let Some(array) = array(values.iter())
        {
            // Never `= ANY(…)`: where the database chooses to read a whole table, the array would be
            // searched for each row.
            return self.push(" IN (SELECT unnest(").array(array).push("))");
        }
        self.push(" IN ").list(values)
    }

    /// These rows as a table `v` with columns `column1`, `column2`…; there must be at least one row.
    pub(crate) fn rows<const N: usize>(self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        let rows: Vec<Vec<Value>> = rows.into_iter().map(Vec::from).collect();
        if self.backend == DbBackend::Postgres
            && let Some(columns) = columns(N, &rows)
        {
            let names: Vec<String> = (1..=N).map(|number| format!("column{number}")).collect();
            return self
                .unnest(columns)
                .push(&format!("({})", names.join(", ")));
        }
        self.push("(").values(rows).push(") AS v")
    }

    /// `INSERT INTO` the table of these rows, which have all columns set; there must be at least one.
    pub(crate) fn insert<A: ActiveModelTrait>(self, rows: impl IntoIterator<Item = A>) -> Self {
        let names: Vec<&str> = Column::<A>::iter().map(|column| column.as_str()).collect();
        let rows: Vec<Vec<Value>> = rows
            .into_iter()
            .map(|row| {
                Column::<A>::iter()
                    .map(|column| row.get(column).into_value().unwrap_or(Value::Int(None)))
                    .collect()
            })
            .collect();
        let sql = self.push(&format!(
            "INSERT INTO {} ({}) ",
            A::Entity::default().table_name(),
            names.join(", ")
        ));
        if sql.backend == DbBackend::Postgres
            && let Some(columns) = columns(names.len(), &rows)
        {
            return sql.push("SELECT * FROM ").unnest(columns);
        }
        sql.values(rows)
    }

    /// `VALUES ($1, $2), ($3, $4)`.
    fn values(self, rows: Vec<Vec<Value>>) -> Self {
        let mut sql = self.push("VALUES ");
        for (index, row) in rows.into_iter().enumerate() {
            if index > 0 {
                sql.text.push_str(", ");
            }
            sql = sql.list(row);
        }
        sql
    }

    /// `($1, $2, …)`.
    fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
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

    /// `unnest($1::uuid[], $2::text[]) AS v`.
    fn unnest(self, columns: Vec<Array>) -> Self {
        let mut sql = self.push("unnest(");
        for (index, column) in columns.into_iter().enumerate() {
            if index > 0 {
                sql.text.push_str(", ");
            }
            sql = sql.array(column);
        }
        sql.push(") AS v")
    }

    fn array(self, Array { kind, values }: Array) -> Self {
        // A statement is prepared for the types of its parameters: one text, one type.
        let from = match values {
            Value::String(_) => "::text::",
            _ => "::",
        };
        self.bind(values).push(from).push(kind).push("[]")
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

/// Now, by the clock that [`Sql::now`] writes, for a value among others.
pub(super) async fn clock(tx: &Tx<'_>) -> Result<Time, StoreError> {
    #[derive(FromQueryResult)]
    struct Clock {
        at: Time,
    }
    let told: Vec<Clock> = match tx.get_database_backend() {
        DbBackend::Postgres => tx.sql("SELECT clock_timestamp() AS at").all(&**tx).await?,
        _ => Vec::new(),
    };
    Ok(told.first().map_or_else(now, |clock| clock.at))
}

/// A column of values as one parameter, an array, so that the statement's text is the same for any
/// number of rows and is prepared once. A list of placeholders would be parsed and planned anew for
/// each number of rows, which costs more than the rows do.
struct Array {
    kind: &'static str,
    values: Value,
}

/// The columns of a table of values; none when one has a type that is not written as an array here.
fn columns(count: usize, rows: &[Vec<Value>]) -> Option<Vec<Array>> {
    (0..count)
        .map(|column| array(rows.iter().map(|row| &row[column])))
        .collect()
}

fn array<'a>(values: impl ExactSizeIterator<Item = &'a Value> + Clone) -> Option<Array> {
    let first = values.clone().next()?;
    let (kind, binary) = match first {
        Value::Bool(_) => ("boolean", Some(ArrayType::Bool)),
        Value::Int(_) => ("integer", Some(ArrayType::Int)),
        Value::BigInt(_) => ("bigint", Some(ArrayType::BigInt)),
        Value::Uuid(_) => ("uuid", Some(ArrayType::Uuid)),
        Value::ChronoDateTimeUtc(_) => ("timestamptz", Some(ArrayType::ChronoDateTimeUtc)),
        // In binary it would be the same bytes, copied once more.
        Value::String(_) => ("text", None),
        _ => return None,
    };
    // Values of one column are of one type; anything else is not ours to guess.
    let is_one = |value| std::mem::discriminant(value) == std::mem::discriminant(first);
    if !values.clone().all(is_one) {
        return None;
    }
    let values = match binary {
        Some(binary) if values.clone().all(Value::is_some) => {
            Value::Array(binary, Some(Box::new(values.cloned().collect())))
        }
        _ => Value::String(Some(written(values))),
    };
    Some(Array { kind, values })
}

/// As Postgres reads an array from text: the driver's own form has no place for nulls.
fn written<'a>(values: impl ExactSizeIterator<Item = &'a Value>) -> String {
    let mut text = String::with_capacity(2 + values.len() * 40);
    text.push('{');
    for value in values {
        if text.len() > 1 {
            text.push(',');
        }
        if element(value, &mut text).is_none() {
            text.push_str("NULL");
        }
    }
    text.push('}');
    text
}

/// Writes a value as an element of an array; nothing of a null.
fn element(value: &Value, text: &mut String) -> Option<()> {
    // Writing to a text does not fail.
    match value {
        Value::Bool(value) => write!(text, "{}", (*value)?).ok(),
        Value::Int(value) => write!(text, "{}", (*value)?).ok(),
        Value::BigInt(value) => write!(text, "{}", (*value)?).ok(),
        Value::Uuid(value) => write!(text, "{}", (*value)?).ok(),
        Value::ChronoDateTimeUtc(value) => {
            write!(text, "\"{}\"", (*value)?.format("%Y-%m-%d %H:%M:%S%.6f+00")).ok()
        }
        Value::String(value) => {
            quoted(value.as_ref()?, text);
            Some(())
        }
        _ => None,
    }
}

/// Between quotation marks, where only they and the backslash mean something.
fn quoted(value: &str, text: &mut String) {
    text.push('"');
    for part in value.split_inclusive(['"', '\\']) {
        match part.strip_suffix(['"', '\\']) {
            Some(before) => {
                text.push_str(before);
                text.push('\\');
                text.push_str(&part[before.len()..]);
            }
            None => text.push_str(part),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::entity::deployment_label;
    use super::*;
    use sea_orm::ActiveValue::Set;
    use shared::id::DeploymentId;
    use uuid::Uuid;

    fn label(key: &str) -> deployment_label::ActiveModel {
        deployment_label::ActiveModel {
            deployment_id: Set(DeploymentId(Uuid::nil())),
            key: Set(key.to_owned()),
            value: Set(String::new()),
        }
    }

    fn text(sql: Sql) -> (String, usize) {
        (sql.text, sql.values.len())
    }

    #[test]
    fn on_postgres_the_text_is_the_same_for_any_number_of_rows() {
        let update = |count: i32| {
            let rows =
                (0..count).map(|n| [Uuid::nil().into(), n.into(), Option::<String>::None.into()]);
            text(Sql::new(DbBackend::Postgres, "UPDATE t SET a = v.column2 FROM ").rows(rows))
        };
        let (one, values) = update(1);
        assert_eq!(
            one,
            "UPDATE t SET a = v.column2 FROM unnest($1::uuid[], $2::integer[], $3::text::text[]) AS v(column1, column2, column3)"
        );
        assert_eq!((update(300), values), ((one, 3), 3));
        let (delete, _) =
            text(Sql::new(DbBackend::Postgres, "DELETE FROM t WHERE a").one_of([1, 2]));
        assert_eq!(
            delete,
            "DELETE FROM t WHERE a IN (SELECT unnest($1::integer[]))"
        );
        let insert = text(Sql::new(DbBackend::Postgres, "").insert([label("a"), label("b")]));
        let unnest = "INSERT INTO deployment_labels (deployment_id, key, value) SELECT * FROM unnest($1::uuid[], $2::text::text[], $3::text::text[]) AS v";
        assert_eq!(insert, (unnest.to_owned(), 3));
    }

    #[test]
    fn on_sqlite_each_value_has_its_place() {
        let rows = [[1.into(), true.into()], [2.into(), false.into()]];
        let select = Sql::new(DbBackend::Sqlite, "SELECT * FROM ").rows(rows);
        assert_eq!(
            text(select),
            (
                "SELECT * FROM (VALUES ($1, $2), ($3, $4)) AS v".to_owned(),
                4
            )
        );
        let insert = text(Sql::new(DbBackend::Sqlite, "").insert([label("a"), label("b")]));
        let values = "INSERT INTO deployment_labels (deployment_id, key, value) VALUES ($1, $2, $3), ($4, $5, $6)";
        assert_eq!(insert, (values.to_owned(), 6));
        let one_of = Sql::new(DbBackend::Sqlite, "a").one_of([1, 2]);
        assert_eq!(text(one_of), ("a IN ($1, $2)".to_owned(), 2));
    }

    #[test]
    fn an_array_holds_any_text() {
        let written = |values: &[Option<&str>]| {
            let values: Vec<Value> = values
                .iter()
                .map(|value| value.map(str::to_owned).into())
                .collect();
            super::written(values.iter())
        };
        assert_eq!(
            written(&[None, Some("NULL"), Some(""), Some("a,{b}")]),
            r#"{NULL,"NULL","","a,{b}"}"#
        );
        assert_eq!(
            written(&[Some(r#"{"a":"\"}"#), Some("é\n")]),
            r#"{"{\"a\":\"\\\"}","é"#.to_owned() + "\n\"}"
        );
        assert!(array([Value::Int(Some(1)), Value::Bool(None)].iter()).is_none());
    }

    #[test]
    fn a_null_makes_an_array_a_text_of_another_statement() {
        let with = |value: Option<i32>| {
            let (text, _) = text(Sql::new(DbBackend::Postgres, "a").one_of([Some(1), value]));
            text
        };
        assert_eq!(with(Some(2)), "a IN (SELECT unnest($1::integer[]))");
        assert_eq!(with(None), "a IN (SELECT unnest($1::text::integer[]))");
        let id = Uuid::nil();
        assert_eq!(
            super::written([Value::Uuid(Some(id)), Value::Uuid(None)].iter()),
            format!("{{{id},NULL}}")
        );
    }
}
