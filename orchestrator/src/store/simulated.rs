//! The database of a simulation: SQLite, answered within the poll that asks.
//!
//! A real database answers on threads of its own. A runtime whose clock is paused would take the
//! wait for idleness and let time jump, and runs of one seed would differ. So a statement blocks the
//! simulation's one thread until it is answered, and a transaction takes no time between its begin
//! and its commit. What passes time, fails, or ends the process are the two gates around it.

use super::{Inner, Store, StoreError};
use async_trait::async_trait;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions as _, Executor as _, SqliteConnection};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, QueryResult, RuntimeErr, Statement, TransactionOptions, TransactionTrait, Values,
};
use sea_query_sqlx::SqlxValues;
use shared::id::StoreIncarnation;
use shared::secret::SecretString;
use shared::simulation::{Effect, Gate};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// What must hold for each row at each moment, watched by the database itself.
const WATCH: &str = "
    CREATE TABLE broken_rules (what text NOT NULL);
    CREATE TRIGGER epochs_never_fall AFTER UPDATE OF epoch ON revisions WHEN NEW.epoch < OLD.epoch
      BEGIN INSERT INTO broken_rules VALUES
        ('the epoch of a revision fell from ' || OLD.epoch || ' to ' || NEW.epoch); END;
    CREATE TRIGGER final_is_final AFTER UPDATE OF status ON revisions
      WHEN OLD.status IN ('FAILED', 'ROLLED_BACK', 'CANCELLED', 'SUPERSEDED', 'COMPLETED', 'DESTROYED')
        AND NEW.status NOT IN (OLD.status, 'DESTROYED')
      BEGIN INSERT INTO broken_rules VALUES
        ('a revision that was ' || OLD.status || ' became ' || NEW.status); END;
    CREATE TRIGGER events_have_no_gap AFTER INSERT ON revision_events
      WHEN NEW.seq > 1 AND NOT EXISTS
        (SELECT 1 FROM revision_events e WHERE e.revision_id = NEW.revision_id AND e.seq = NEW.seq - 1)
      BEGIN INSERT INTO broken_rules VALUES ('event ' || NEW.seq || ' came without the one before'); END;
    CREATE TRIGGER finished_stays_finished AFTER UPDATE OF finished_at ON work_requests
      WHEN OLD.finished_at IS NOT NULL AND NEW.finished_at IS NOT OLD.finished_at
      BEGIN INSERT INTO broken_rules VALUES ('a finished work request was finished again'); END;
";

/// A database that outlives the simulated processes on it. Clones are the same database.
#[derive(Clone)]
pub struct SimulatedDatabase {
    connection: Arc<Mutex<SqliteConnection>>,
    incarnation: StoreIncarnation,
}

impl std::fmt::Debug for SimulatedDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedDatabase").finish_non_exhaustive()
    }
}

impl SimulatedDatabase {
    /// Writes an empty database with today's schema to a file, for [`SimulatedDatabase::open`] to
    /// open copies of. Needs a runtime with a real clock.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn make_template(path: &Path) -> Result<(), StoreError> {
        let made = path.with_extension("made");
        let url = SecretString::from(format!("sqlite://{}", made.display()));
        drop(Store::open(&url, &CancellationToken::new()).await?);
        let mut connection = SqliteConnectOptions::new()
            .filename(&made)
            .connect()
            .await
            .map_err(failed)?;
        let copy = format!("VACUUM INTO '{}'", path.display());
        for statement in [copy.as_str(), "PRAGMA optimize"] {
            connection
                .execute(AssertSqlSafe(statement.to_owned()))
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Opens a copy of the template, to which nobody else writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .statement_cache_capacity(256)
            .journal_mode(SqliteJournalMode::Memory)
            // The simulation decides what a crash loses; the machine's own is out of the question.
            .synchronous(SqliteSynchronous::Off)
            .disable_statement_logging();
        let mut connection = answered(options.connect()).map_err(failed)?;
        answered(connection.execute(WATCH)).map_err(failed)?;
        let incarnation = StoreIncarnation::new();
        let renewed = sqlx::query("UPDATE store_meta SET incarnation = ?").bind(incarnation.0);
        answered(renewed.execute(&mut connection)).map_err(failed)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            incarnation,
        })
    }

    /// Which of the rules that hold at each moment were broken until now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn broken_rules(&self) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query_scalar("SELECT what FROM broken_rules");
        let found = answered(found.fetch_all(&mut *self.connection()));
        Ok(found.map_err(failed)?)
    }

    fn connection(&self) -> MutexGuard<'_, SqliteConnection> {
        // A panic ends the seed; nobody looks at what it left.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn execute(&self, statement: &Statement) -> Result<ExecResult, DbErr> {
        let done = answered(query(statement).execute(&mut *self.connection()));
        Ok(done.map_err(failed)?.into())
    }

    fn execute_text(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let done = answered(self.connection().execute(AssertSqlSafe(sql.to_owned())));
        Ok(done.map_err(failed)?.into())
    }

    fn query_all(&self, statement: &Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = answered(query(statement).fetch_all(&mut *self.connection()));
        let rows = rows.map_err(failed)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

impl Store {
    /// A store for one life of a process on a simulated database.
    #[must_use]
    pub fn simulated(database: &SimulatedDatabase, gate: Arc<dyn Gate>) -> Self {
        let inner = Inner {
            db: Connection::Simulated(Gated {
                database: database.clone(),
                gate,
            }),
            backend: DbBackend::Sqlite,
            incarnation: database.incarnation,
            writer: tokio::sync::Mutex::new(()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

/// Waits for an answer without letting anything else happen.
fn answered<T>(ask: impl Future<Output = T>) -> T {
    // Without tokio's budget: once that is used up, nothing would be ready before the next poll.
    futures::executor::block_on(tokio::task::unconstrained(ask))
}

fn query(statement: &Statement) -> sqlx::query::Query<'_, sqlx::Sqlite, SqlxValues> {
    let values = statement
        .values
        .clone()
        .unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
}

/// A simulated database as one life of a process reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Gated {
    database: SimulatedDatabase,
    gate: Arc<dyn Gate>,
}

impl Gated {
    async fn reach(&self) -> Result<&SimulatedDatabase, DbErr> {
        match self.gate.pass(Effect::Database).await {
            Ok(()) => Ok(&self.database),
            Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        }
    }

    async fn begin(&self, options: TransactionOptions) -> Result<Open, DbErr> {
        let database = self.reach().await?;
        let mode = options
            .sqlite_transaction_mode
            .map_or("", |mode| mode.sqlite_keyword());
        database.execute_text(&format!("BEGIN {mode}"))?;
        Ok(Open {
            gated: self.clone(),
            ended: false,
        })
    }
}

/// An open transaction; dropping it undoes it.
#[derive(Debug)]
pub(crate) struct Open {
    gated: Gated,
    ended: bool,
}

impl Open {
    async fn commit(mut self) -> Result<(), DbErr> {
        self.ended = true;
        self.gated.database.execute_text("COMMIT")?;
        // From here on it is committed, whoever hears of it.
        let heard = self.gated.gate.pass(Effect::DatabaseCommitted).await;
        heard.map_err(|away| failed(sqlx::Error::Io(std::io::Error::other(away))))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.gated.database.execute_text("ROLLBACK")
        {
            tracing::error!(%error, "a simulated transaction could not be undone");
        }
    }
}

/// A real pool, or the way of one process to a simulated database.
pub(crate) enum Connection {
    Pool(DatabaseConnection),
    Simulated(Gated),
}

impl From<DatabaseConnection> for Connection {
    fn from(pool: DatabaseConnection) -> Self {
        Self::Pool(pool)
    }
}

impl Connection {
    pub(crate) async fn ping(&self) -> Result<(), DbErr> {
        match self {
            Self::Pool(pool) => pool.ping().await,
            Self::Simulated(gated) => gated.reach().await.map(drop),
        }
    }

    pub(crate) async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<Transaction, DbErr> {
        Ok(match self {
            Self::Pool(pool) => Transaction::Real(pool.begin_with_options(options).await?),
            Self::Simulated(gated) => Transaction::Simulated(gated.begin(options).await?),
        })
    }
}

#[async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Pool(pool) => pool.get_database_backend(),
            Self::Simulated(_) => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Pool(pool) => pool.execute_raw(statement).await,
            Self::Simulated(gated) => gated.reach().await?.execute(&statement),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Pool(pool) => pool.execute_unprepared(sql).await,
            Self::Simulated(gated) => gated.reach().await?.execute_text(sql),
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Pool(pool) => pool.query_one_raw(statement).await,
            Self::Simulated(gated) => {
                let rows = gated.reach().await?.query_all(&statement)?;
                Ok(rows.into_iter().next())
            }
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Pool(pool) => pool.query_all_raw(statement).await,
            Self::Simulated(gated) => gated.reach().await?.query_all(&statement),
        }
    }
}

/// A real transaction, or one on a simulated database.
pub(crate) enum Transaction {
    Real(DatabaseTransaction),
    Simulated(Open),
}

impl Transaction {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Real(transaction) => transaction.commit().await,
            Self::Simulated(open) => open.commit().await,
        }
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Real(transaction) => transaction.get_database_backend(),
            Self::Simulated(_) => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Real(transaction) => transaction.execute_raw(statement).await,
            Self::Simulated(open) => open.gated.database.execute(&statement),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Real(transaction) => transaction.execute_unprepared(sql).await,
            Self::Simulated(open) => open.gated.database.execute_text(sql),
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Real(transaction) => transaction.query_one_raw(statement).await,
            Self::Simulated(open) => {
                let rows = open.gated.database.query_all(&statement)?;
                Ok(rows.into_iter().next())
            }
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Real(transaction) => transaction.query_all_raw(statement).await,
            Self::Simulated(open) => open.gated.database.query_all(&statement),
        }
    }
}
