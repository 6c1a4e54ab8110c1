//! The store: rows on Postgres or SQLite, and the few transactions that matter.
//!
//! One file an aggregate, resource first in every name: `deployments_create`, `work_publishable`. A
//! change of state and the event that records it share one transaction; sending happens after.
//! Whatever can come in numbers is taken in numbers: no query per row.
//!
//! Locks are always taken in one order, so that transactions wait for each other but never in a
//! circle: deployments by id, then revisions by id, then nodes by id, then the rest.

mod acting;
mod assignments;
mod blame;
mod build_log;
mod cancel;
mod claim;
pub(crate) mod column;
mod connect;
mod connection;
mod create;
mod dead_letter;
mod dispatch;
pub(crate) mod entity;
mod error;
mod fence;
mod fleet;
mod git_poll;
mod lease;
mod ledger;
mod left_behind;
mod lifecycle;
mod missing;
mod moves;
mod node;
mod offer;
#[cfg(feature = "simulation")]
mod picture;
mod placement;
mod report;
mod revise;
#[cfg(feature = "simulation")]
mod simulated;
mod sql;
mod waiting;
mod work;
mod work_lease;

pub use acting::Acted;
pub use build_log::{BuildLogLine, BuildLogPosition, BuildLogState};
pub use claim::Claim;
pub(crate) use create::watching;
pub use create::{Created, NewDeployment};
pub use dead_letter::{DEAD_LETTERS_KEPT, DeadLettersRecorded, KeptMessage, NewDeadLetter};
pub use dispatch::{Assignment, Dispatched};
pub use error::StoreError;
pub use git_poll::{DuePoll, PollOutcome, PollsRecorded};
pub use missing::MissingTaken;
pub use moves::Moves;
pub use node::HeartbeatsApplied;
#[cfg(feature = "simulation")]
pub use picture::{DeploymentRow, EventRow, LeaseRow, NodeRow, Picture, RevisionRow, WorkRow};
pub use report::{Ignored, ReportsApplied};
pub use revise::{NewRevision, RollbackTo};
#[cfg(feature = "simulation")]
pub use simulated::SimulatedDatabase;
pub use waiting::RequestedRevision;
pub(crate) use work::WORK_LEASE;
pub use work::{PublishableWork, WorkAnswers};
pub use work_lease::WorkTakenBack;

pub(crate) use connection::{Connection, Transaction};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, IsolationLevel, SqliteTransactionMode,
    TransactionOptions,
};
use shared::id::StoreIncarnation;
use sql::Sql;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// How long a question whether the database answers may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: Connection,
    backend: DbBackend,
    incarnation: StoreIncarnation,
    // SQLite has one writer at a time. Waiting here, in order of arrival, instead of in the
    // database means that nobody is ever told that it is busy.
    writer: Mutex<()>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("backend", &self.inner.backend)
            .field("incarnation", &self.inner.incarnation)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Which life of the store this is: it changes when a database is restored from a backup.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.inner.incarnation
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not, or not within two seconds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PING_TIMEOUT, self.inner.db.ping()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Silent {
                waited: PING_TIMEOUT,
            }),
        }
    }

    /// For reading outside a transaction.
    pub(crate) fn reader(&self) -> &Connection {
        &self.inner.db
    }

    /// For reading several times what was true at one moment.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, StoreError> {
        let options = match self.inner.backend {
            DbBackend::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            },
            // In WAL mode a reader sees what was there at its first statement.
            _ => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..Default::default()
            },
        };
        Ok(connection::begin(&self.inner.db, options).await?)
    }

    /// An empty statement in the dialect of this database.
    pub(crate) fn sql(&self, text: &str) -> Sql {
        Sql::new(self.inner.backend, text)
    }

    /// Begins a transaction that writes.
    pub(crate) async fn write(&self) -> Result<Tx<'_>, StoreError> {
        match self.inner.backend {
            DbBackend::Sqlite => {
                let turn = self.inner.writer.lock().await;
                // A transaction that begins as a reader and then writes can fail half-way.
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..Default::default()
                };
                let tx = connection::begin(&self.inner.db, options).await?;
                Ok(Tx {
                    tx,
                    _turn: Some(turn),
                })
            }
            _ => Ok(Tx {
                tx: connection::begin(&self.inner.db, TransactionOptions::default()).await?,
                _turn: None,
            }),
        }
    }
}

/// A transaction that writes; dropped without [`Tx::commit`] it changes nothing.
pub(crate) struct Tx<'store> {
    // Before the turn: what ends first is the transaction.
    tx: Transaction,
    _turn: Option<MutexGuard<'store, ()>>,
}

impl Tx<'_> {
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }

    /// An empty statement in the dialect of this database.
    pub(crate) fn sql(&self, text: &str) -> Sql {
        Sql::new(self.tx.get_database_backend(), text)
    }
}

impl std::ops::Deref for Tx<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}
