//! The database as the benchmark sees it: made for it, asked for nothing while it is measured, and
//! counted through at the end.

use super::usage;
use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::time::{Duration, Instant};

/// A database of the benchmark's own, on a server that keeps what it is given.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    _own: testkit::services::Database,
}

impl Database {
    pub(crate) async fn create() -> Result<Self> {
        let own = testkit::services::Database::create();
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect(&own.url)
            .await?;
        for setting in ["fsync", "synchronous_commit"] {
            let (value,): (String,) = sqlx::query_as("select current_setting($1)")
                .bind(setting)
                .fetch_one(&pool)
                .await?;
            ensure!(
                value == "on",
                "{setting} is {value}: start the database with LONGSHORE_POSTGRES_DURABLE=1"
            );
        }
        Ok(Self {
            url: own.url.clone(),
            pool,
            _own: own,
        })
    }

    /// The process that all of the server's processes belong to.
    pub(crate) async fn postmaster(&self) -> Result<u32> {
        let (pid,): (i32,) = sqlx::query_as("select pg_backend_pid()")
            .fetch_one(&self.pool)
            .await?;
        usage::parent(u32::try_from(pid)?)
    }

    /// Waits until this many nodes take work.
    pub(crate) async fn until_ready(&self, nodes: usize) -> Result<()> {
        self.until(
            "every node is ready",
            "select count(*) from nodes where status = 'READY'",
            nodes,
        )
        .await
    }

    /// Waits until every work request has come to its end.
    pub(crate) async fn until_finished(&self) -> Result<()> {
        self.until(
            "all work is finished",
            "select count(*) from work_requests where finished_at is null",
            0,
        )
        .await
    }

    async fn until(&self, what: &str, count: &'static str, wanted: usize) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let (found,): (i64,) = sqlx::query_as(count).fetch_one(&self.pool).await?;
            if found == i64::try_from(wanted)? {
                return Ok(());
            }
            ensure!(
                Instant::now() < patience,
                "after two minutes still not: {what} ({found}, not {wanted})"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Counts through: nothing is lost and nothing is there twice.
    pub(crate) async fn check(&self, deployments: usize) -> Result<String> {
        let wanted = i64::try_from(deployments)?;
        let mut counted = Vec::new();
        for (what, count, each) in COUNTS {
            let (found,): (i64,) = sqlx::query_as(count)
                .fetch_one(&self.pool)
                .await
                .context(what)?;
            ensure!(
                found == wanted * each,
                "{what}: {found}, not {}",
                wanted * each
            );
            counted.push(format!("{found} {what}"));
        }
        Ok(format!("none lost, none doubled: {}", counted.join(", ")))
    }

    /// Where the database's time went, when it counts that.
    pub(crate) async fn statements(&self) -> Result<Vec<String>> {
        let top = "select round(total_exec_time)::bigint, calls, rows, left(regexp_replace(query, '\\s+', ' ', 'g'), 160) \
                   from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = current_database() \
                   order by total_exec_time desc limit 40";
        let rows: Result<Vec<(i64, i64, i64, String)>, sqlx::Error> =
            sqlx::query_as(top).fetch_all(&self.pool).await;
        // The extension is there only when somebody looks for where time goes.
        Ok(rows
            .unwrap_or_default()
            .into_iter()
            .map(|(ms, calls, rows, text)| {
                format!("{ms:>7} ms {calls:>7} calls {rows:>8} rows  {text}")
            })
            .collect())
    }
}

/// What is counted, and how many of it each deployment has.
const COUNTS: [(&str, &str, i64); 6] = [
    (
        "revisions RUNNING",
        "select count(*) from revisions where status = 'RUNNING'",
        1,
    ),
    (
        "deployments served",
        "select count(*) from deployments d join revisions r on r.id = d.active_revision_id and r.number = 1",
        1,
    ),
    ("steps", "select count(*) from revision_events", 7),
    (
        "steps in order",
        "select count(*) from (select row_number() over (partition by revision_id order by seq) n, seq, \
     row_number() over (partition by revision_id, status) twice, status from revision_events) e where n = seq and twice = 1 \
     and status = (array['REQUESTED','INITIALIZED','FETCHING','BUILDING','STARTING','VERIFYING','RUNNING'])[n]",
        7,
    ),
    ("ports", "select count(*) from port_leases", 1),
    (
        "orders done",
        "select count(*) from work_requests where finished_at is not null and refused_reason is null",
        1,
    ),
];
