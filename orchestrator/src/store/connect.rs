//! Opening the database: waiting for it, and bringing its schema up to date.

use super::column::now;
use super::entity::store_meta;
use super::{Inner, Store, StoreError, connection};
use backon::BackoffBuilder;
use migrations::Migrator;
use sea_orm::sea_query::OnConflict;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection, PgConnection};
use sea_orm::{
    ActiveValue::Set, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend,
    EntityTrait, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use shared::id::StoreIncarnation;
use shared::secret::{ExposeSecret, SecretString, redacted_url};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How long a statement may take, and wait for a lock: far beyond what any of ours needs, so that a
/// database that hangs is noticed like one that is gone.
const STATEMENT_LIMIT: &str = "30s";

/// How long a database may take to answer when it is asked why it does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Serialises orchestrators that migrate the same Postgres database; any number of our own.
const MIGRATION_LOCK: i64 = 0x6c6f_6e67_7368_6f72;

impl Store {
    /// Connects to `postgres://…` or `sqlite:///…`, waiting with back-off and saying so while the
    /// database does not answer, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] when waiting cannot help, or `stop` was cancelled meanwhile.
    pub async fn open(url: &SecretString, stop: &CancellationToken) -> Result<Self, StoreError> {
        let (backend, options) = options(url)?;
        let mut pauses = pauses();
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => return Err(StoreError::Stopped),
                opened = open_once(backend, options.clone()) => opened,
            };
            let error = match opened {
                Ok(store) => return Ok(store),
                Err(error) => error,
            };
            if !error.is_transient() {
                return Err(error);
            }
            // The iterator has no end; were it to end, five seconds are as good.
            let pause = pauses.next().unwrap_or(Duration::from_secs(5));
            let cause = match refusal(backend, url).await {
                Some(refusal) => refusal,
                None => std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            };
            tracing::warn!(
                database = redacted_url(url.expose_secret()),
                retry_ms = pause.as_millis() as u64,
                "waiting for the database: {error}: {cause}"
            );
            tokio::select! {
                () = stop.cancelled() => return Err(StoreError::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What a PostgreSQL that cannot be reached says to one connection: a pool tries on by itself and says no
/// more than that its time is up.
async fn refusal(backend: DbBackend, url: &SecretString) -> Option<String> {
    if backend != DbBackend::Postgres {
        return None;
    }
    let connecting = PgConnection::connect(url.expose_secret());
    match tokio::time::timeout(ANSWER_LIMIT, connecting).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

async fn open_once(backend: DbBackend, options: ConnectOptions) -> Result<Store, StoreError> {
    let db = Database::connect(options).await?;
    let incarnation = prepare(&db).await?;
    Ok(Store {
        inner: Arc::new(Inner {
            db: connection::real(db),
            backend,
            incarnation,
            writer: Mutex::new(()),
        }),
    })
}

fn options(url: &SecretString) -> Result<(DbBackend, ConnectOptions), StoreError> {
    let url = url.expose_secret();
    let refused = || StoreError::Url {
        shown: redacted_url(url),
    };
    let scheme = url.split(':').next().unwrap_or_default();
    let mut options = ConnectOptions::new(url);
    options
        .connect_timeout(Duration::from_secs(5))
        .acquire_timeout(Duration::from_secs(5))
        .sqlx_logging(false);
    let backend = match scheme {
        "postgres" | "postgresql" => {
            // Each connection costs memory here and a process there; eight carry the batches of all loops.
            options
                .max_connections(8)
                .min_connections(1)
                .idle_timeout(Duration::from_secs(60))
                .test_before_acquire_if_idle_for(Duration::from_secs(2))
                .map_sqlx_postgres_opts(|options| {
                    options
                        .application_name("longshore")
                        .options([
                            ("statement_timeout", STATEMENT_LIMIT),
                            ("lock_timeout", STATEMENT_LIMIT),
                            ("idle_in_transaction_session_timeout", STATEMENT_LIMIT),
                        ])
                        .statement_cache_capacity(96)
                        // A plan that was kept from when a table was small reads all of it when it
                        // is large. Planning anew costs little beside a batch of rows.
                        .options([("plan_cache_mode", "force_custom_plan")])
                        // Statements here are short and name rows by key, which are in memory:
                        // compiling one takes ten times as long as running it, and reading a whole
                        // table instead takes longer with each row that there is.
                        .options([("jit", "off"), ("random_page_cost", "1.1")])
                });
            DbBackend::Postgres
        }
        "sqlite" if !url.contains(":memory:") && !url.contains("mode=memory") => {
            options
                .max_connections(4)
                .min_connections(1)
                .idle_timeout(Duration::from_secs(60));
            options.map_sqlx_sqlite_opts(|options| {
                options
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .busy_timeout(Duration::from_secs(5))
                    .journal_mode(SqliteJournalMode::Wal)
                    // An accepted mutation is a committed row, also after the power went: NORMAL
                    // would keep it over a killed process only. It costs one flush a commit.
                    .synchronous(SqliteSynchronous::Full)
            });
            DbBackend::Sqlite
        }
        _ => return Err(refused()),
    };
    Ok((backend, options))
}

/// Brings the schema up to date and reads which life of the store this is.
async fn prepare(db: &DatabaseConnection) -> Result<StoreIncarnation, StoreError> {
    let tx = db.begin().await?;
    if tx.get_database_backend() == DbBackend::Postgres {
        // Another orchestrator may be at a large change: that is waited for.
        tx.execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            .await?;
        tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            .await?;
    }
    Migrator::up(&tx, None).await?;
    let first = store_meta::ActiveModel {
        id: Set(1),
        incarnation: Set(StoreIncarnation::new()),
        created_at: Set(now()),
    };
    store_meta::Entity::insert(first)
        .on_conflict(
            OnConflict::column(store_meta::Column::Id)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
    let meta = store_meta::Entity::find_by_id(1).one(&tx).await?;
    tx.commit().await?;
    meta.map(|meta| meta.incarnation)
        .ok_or_else(|| StoreError::Inconsistent {
            what: "store_meta is empty".to_owned(),
        })
}
