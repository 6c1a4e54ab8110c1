//! The floor: the same way of a deployment with nothing around it.
//!
//! Rows in batches (requested, initialized, five reports: each an event, and one newest status a
//! batch), and a message for each order and each report through quorum queues with confirms, over
//! the raw client. No GraphQL, no placement, no ports, no journal; nothing is looked up.

use super::amqp::{Connection, Received};
use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use uuid::Uuid;

/// Rows of one statement and orders of one round.
const BATCH: usize = 200;
/// Messages published and not confirmed.
const WINDOW: u64 = 1_000;
/// Batches that wait for the next stage.
const AHEAD: usize = 10;
/// Reports of each deployment.
const REPORTS: u8 = 5;
/// The size of a message, in bytes.
const MESSAGE: usize = 500;
/// The queue of reports.
const REPORT_QUEUE: &str = "floor.reports";

const TABLES: &str = "drop table if exists floor_events; drop table if exists floor_rows;
create table floor_rows (id uuid primary key, status smallint not null, node integer, body text not null);
create table floor_events (id uuid not null, seq smallint not null, at timestamptz not null default now(), primary key (id, seq))";

/// Runs it; how long it took.
pub(super) async fn run(
    amqp: &str,
    pool: &PgPool,
    nodes: usize,
    deployments: usize,
) -> Result<Duration> {
    for statement in TABLES.split(';') {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(pool)
            .await?;
    }
    let mut control = Connection::open(amqp, 1)?;
    control.declare(REPORT_QUEUE)?;
    for node in 0..nodes {
        control.declare(&work_queue(node))?;
    }
    let (amqp, pool, handle) = (amqp.to_owned(), pool.clone(), Handle::current());
    let took =
        tokio::task::spawn_blocking(move || stages(&amqp, &pool, &handle, nodes, deployments))
            .await??;
    control.delete(REPORT_QUEUE)?;
    for node in 0..nodes {
        control.delete(&work_queue(node))?;
    }
    Ok(took)
}

fn work_queue(node: usize) -> String {
    format!("floor.work.{node}")
}

fn stages(
    amqp: &str,
    pool: &PgPool,
    handle: &Handle,
    nodes: usize,
    deployments: usize,
) -> Result<Duration> {
    let mut reports = Connection::open(amqp, 1)?;
    reports.consume(1, REPORT_QUEUE, 2_000)?;
    let workers: Vec<Worker> = (0..nodes)
        .map(|node| Worker::open(amqp, node))
        .collect::<Result<_>>()?;
    let orders = Connection::open(amqp, 1)?;
    let (requested, to_dispatch) = sync_channel(AHEAD);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let share = |node: usize| deployments / nodes + usize::from(node < deployments % nodes);
        let working: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(node, worker)| scope.spawn(move || worker.run(share(node))))
            .collect();
        let requesting = scope.spawn(move || request(pool, handle, deployments, &requested));
        let dispatching = scope.spawn(move || dispatch(pool, handle, orders, nodes, &to_dispatch));
        ingest(pool, handle, &mut reports, deployments)?;
        let took = started.elapsed();
        requesting
            .join()
            .map_err(|_| anyhow::anyhow!("requesting panicked"))??;
        dispatching
            .join()
            .map_err(|_| anyhow::anyhow!("dispatching panicked"))??;
        for worker in working {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        let counted = "select (select count(*) from floor_rows where status = 7) , (select count(*) from floor_events)";
        let (running, events): (i64, i64) =
            handle.block_on(sqlx::query_as(counted).fetch_one(pool))?;
        let whole = running == deployments as i64 && events == 7 * deployments as i64;
        ensure!(
            whole,
            "the floor lost something: {running} running, {events} events"
        );
        Ok(took)
    })
}

fn request(
    pool: &PgPool,
    handle: &Handle,
    deployments: usize,
    next: &SyncSender<Vec<Uuid>>,
) -> Result<()> {
    let body = "b".repeat(MESSAGE);
    for first in (0..deployments).step_by(BATCH) {
        let ids: Vec<Uuid> = (first..(first + BATCH).min(deployments))
            .map(|_| Uuid::now_v7())
            .collect();
        handle.block_on(async {
            let mut tx = pool.begin().await?;
            sqlx::query("insert into floor_rows (id, status, body) select id, 1, $2 from unnest($1::uuid[]) id")
                .bind(&ids)
                .bind(&body)
                .execute(&mut *tx)
                .await?;
            events(&mut tx, &ids, &vec![1; ids.len()]).await?;
            tx.commit().await
        })?;
        next.send(ids)?;
    }
    Ok(())
}

async fn events(tx: &mut sqlx::PgConnection, ids: &[Uuid], seqs: &[i16]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into floor_events (id, seq) select * from unnest($1::uuid[], $2::smallint[])",
    )
    .bind(ids)
    .bind(seqs)
    .execute(tx)
    .await
    .map(drop)
}

async fn statuses(tx: &mut sqlx::PgConnection, ids: &[Uuid], to: &[i16]) -> sqlx::Result<()> {
    let update = "update floor_rows r set status = v.status from unnest($1::uuid[], $2::smallint[]) v(id, status) where r.id = v.id";
    sqlx::query(update)
        .bind(ids)
        .bind(to)
        .execute(tx)
        .await
        .map(drop)
}

fn dispatch(
    pool: &PgPool,
    handle: &Handle,
    connection: Connection,
    nodes: usize,
    batches: &Receiver<Vec<Uuid>>,
) -> Result<()> {
    let mut publisher = Publisher::new(connection);
    let mut count = 0;
    while let Ok(ids) = batches.recv() {
        handle.block_on(async {
            let mut tx = pool.begin().await?;
            statuses(&mut tx, &ids, &vec![2; ids.len()]).await?;
            events(&mut tx, &ids, &vec![2; ids.len()]).await?;
            tx.commit().await
        })?;
        for id in ids {
            publisher.publish("", &work_queue(count % nodes), &message(id, 0))?;
            count += 1;
        }
        publisher.connection.flush()?;
    }
    publisher.settle(0)
}

/// The id, the number of the report, and what else a message of that size has.
fn message(id: Uuid, report: u8) -> Vec<u8> {
    let mut body = Vec::with_capacity(MESSAGE);
    body.extend(id.as_bytes());
    body.push(report);
    body.resize(MESSAGE, b'm');
    body
}

fn read(body: &[u8]) -> Result<(Uuid, u8)> {
    let (id, rest) = body.split_first_chunk::<16>().context("an id")?;
    Ok((Uuid::from_bytes(*id), *rest.first().context("a number")?))
}

/// Publishes with a window of unconfirmed messages.
struct Publisher {
    connection: Connection,
    published: u64,
    confirmed: Confirmed,
}

/// Which messages are confirmed: all up to a number, and some beyond it. A broker may confirm one
/// before those that came before it.
#[derive(Default)]
struct Confirmed {
    up_to: u64,
    beyond: BTreeSet<u64>,
}

impl Confirmed {
    fn take(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.up_to = self.up_to.max(tag);
        } else {
            self.beyond.insert(tag);
        }
        while let Some(next) = self.beyond.first().copied()
            && next <= self.up_to + 1
        {
            self.up_to = self.up_to.max(next);
            self.beyond.pop_first();
        }
    }

    fn count(&self) -> u64 {
        self.up_to + self.beyond.len() as u64
    }
}

impl Publisher {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            published: 0,
            confirmed: Confirmed::default(),
        }
    }

    fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) -> Result<()> {
        self.settle(WINDOW - 1)?;
        self.connection.publish(1, (exchange, key), body, true)?;
        self.published += 1;
        Ok(())
    }

    /// Waits until at most this many are unconfirmed.
    fn settle(&mut self, unconfirmed: u64) -> Result<()> {
        while self.published - self.confirmed.count() > unconfirmed {
            for received in self.connection.receive(usize::MAX)? {
                if let Received::Confirmed { tag, multiple, .. } = received {
                    self.confirmed.take(tag, multiple);
                }
            }
        }
        Ok(())
    }
}

/// A node: acknowledges orders in groups and reports each five times.
struct Worker {
    orders: Connection,
    reports: Publisher,
}

impl Worker {
    fn open(amqp: &str, node: usize) -> Result<Self> {
        let mut orders = Connection::open(amqp, 1)?;
        orders.consume(1, &work_queue(node), 200)?;
        Ok(Self {
            orders,
            reports: Publisher::new(Connection::open(amqp, 1)?),
        })
    }

    fn run(mut self, share: usize) -> Result<()> {
        let mut done = 0;
        while done < share {
            let mut last = 0;
            for received in self.orders.receive(100)? {
                let Received::Delivery { tag, body, .. } = received else {
                    continue;
                };
                let (id, _) = read(&body)?;
                last = tag;
                done += 1;
                for report in 1..=REPORTS {
                    self.reports
                        .publish("", REPORT_QUEUE, &message(id, report))?;
                }
            }
            self.orders.ack_up_to(1, last)?;
            self.orders.flush()?;
            self.reports.connection.flush()?;
        }
        self.reports.settle(0)
    }
}

fn ingest(
    pool: &PgPool,
    handle: &Handle,
    connection: &mut Connection,
    deployments: usize,
) -> Result<()> {
    let mut left = deployments * usize::from(REPORTS);
    while left > 0 {
        let mut last = 0;
        let (mut ids, mut seqs) = (Vec::new(), Vec::new());
        let mut newest: BTreeMap<Uuid, i16> = BTreeMap::new();
        for received in connection.receive(BATCH * 5)? {
            let Received::Delivery { tag, body, .. } = received else {
                continue;
            };
            let (id, report) = read(&body)?;
            last = tag;
            ids.push(id);
            seqs.push(i16::from(report) + 2);
            let status = newest.entry(id).or_default();
            *status = (*status).max(i16::from(report) + 2);
        }
        let (moved, to): (Vec<Uuid>, Vec<i16>) = newest.into_iter().unzip();
        handle.block_on(async {
            let mut tx = pool.begin().await?;
            events(&mut tx, &ids, &seqs).await?;
            statuses(&mut tx, &moved, &to).await?;
            tx.commit().await
        })?;
        connection.ack_up_to(1, last)?;
        left -= ids.len();
    }
    connection.flush()
}

#[cfg(test)]
mod tests {
    use super::Confirmed;

    #[test]
    fn confirmations_count_in_any_order() {
        let cases: [(&[(u64, bool)], u64); 4] = [
            (&[(1, false), (2, false)], 2),
            (&[(5, false), (4, true)], 5),
            (&[(2, false), (4, false), (1, false)], 3),
            (&[(3, false), (7, true), (2, true)], 7),
        ];
        for (said, count) in cases {
            let mut confirmed = Confirmed::default();
            for (tag, multiple) in said {
                confirmed.take(*tag, *multiple);
            }
            assert_eq!(confirmed.count(), count, "{said:?}");
        }
    }
}
