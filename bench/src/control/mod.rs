//! G4, G5: deployments a second through the whole control plane, over the same way with nothing
//! around it, in the same run.

mod amqp;
pub(crate) mod check;
mod fleet;
pub(crate) mod load;
pub(crate) mod process;
mod strawman;
mod usage;

use crate::table::Samples;
use anyhow::{Context, Result};
use check::Database;
use fleet::Fleet;
use load::Asking;
use process::Server;
use std::path::Path;
use std::time::{Duration, Instant};
use usage::{Processes, Used};

/// What is measured.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Simulated nodes.
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Deployments.
    #[arg(long, default_value_t = 10_000)]
    deployments: usize,
    /// Requests at once.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Mutations in one request, at most 100.
    #[arg(long, default_value_t = 20)]
    aliases: usize,
    /// Deployments a second, to see how long one takes at that rate; as many as possible when absent.
    #[arg(long)]
    rate: Option<f64>,
    /// Leave the floor out.
    #[arg(long)]
    no_floor: bool,
}

pub(crate) async fn run(binary: &Path, arguments: Arguments) -> Result<()> {
    let database = Database::create().await?;
    let broker = testkit::services::Broker::create().await;
    let rig = Rig {
        processes: Processes {
            broker: process::broker_pid().await?,
            database: database.postmaster().await?,
            orchestrator: 0,
        },
        database,
        broker,
    };
    println!(
        "{} deployments on {} nodes; processor time in µs a deployment",
        arguments.deployments, arguments.nodes
    );
    println!(
        "{:<26} {:>8} {:>7}  {:>7} {:>8} {:>12} {:>7}",
        "", "a second", "ratio", "broker", "database", "orchestrator", "bench"
    );
    let floor = if arguments.no_floor {
        None
    } else {
        Some(rig.floor(arguments).await?)
    };
    let whole = rig.whole(binary, arguments).await?;
    if let Some(floor) = &floor {
        println!("{}", floor.row("floor", None));
    }
    println!(
        "{}",
        whole.pace.row("longshore, from GraphQL", floor.as_ref())
    );
    println!();
    for line in &whole.notes {
        println!("{line}");
    }
    Ok(())
}

/// The real services.
struct Rig {
    processes: Processes,
    database: Database,
    broker: testkit::services::Broker,
}

/// How fast, and what it took.
struct Pace {
    per_second: f64,
    used: Used,
}

struct Whole {
    pace: Pace,
    notes: Vec<String>,
}

impl Pace {
    fn row(&self, name: &str, floor: Option<&Self>) -> String {
        let ratio = floor.map_or_else(String::new, |floor| {
            format!("{:.2}x", self.per_second / floor.per_second)
        });
        let Used {
            broker,
            database,
            orchestrator,
            bench,
        } = self.used;
        format!(
            "{name:<26} {:>8.0} {ratio:>7}  {broker:>7.0} {database:>8.0} {orchestrator:>12.0} {bench:>7.0}",
            self.per_second
        )
    }
}

impl Rig {
    async fn floor(&self, arguments: Arguments) -> Result<Pace> {
        let before = self.processes.used()?;
        let took = strawman::run(
            &self.broker.url,
            &self.database.pool,
            arguments.nodes,
            arguments.deployments,
        )
        .await?;
        let used = self.processes.used()?.since(before, arguments.deployments);
        Ok(Pace {
            per_second: arguments.deployments as f64 / took.as_secs_f64(),
            used,
        })
    }

    async fn whole(&self, binary: &Path, arguments: Arguments) -> Result<Whole> {
        let directory = tempfile::tempdir()?;
        let server = Server::start(
            binary,
            &self.database.url,
            &self.broker.url,
            directory.path(),
        )
        .await?;
        let processes = Processes {
            orchestrator: server.pid()?,
            ..self.processes
        };
        let mut fleet = Fleet::start(&self.broker.url, arguments.nodes, directory.path())?;
        self.database.until_ready(arguments.nodes).await?;
        fleet.listen();
        let idle = server.pss_mib()?;

        let asking = Asking {
            deployments: arguments.deployments,
            connections: arguments.connections,
            aliases: arguments.aliases.clamp(1, 100),
            rate: arguments.rate,
        };
        let before = processes.used()?;
        let started = Instant::now();
        let (asked, applied) = tokio::join!(
            load::ask(&server.address, "bench", asking),
            until_applied(&server.address, &mut fleet, arguments.deployments)
        );
        let (asked, applied) = (asked?, applied?);
        let took = applied - started;
        let used = processes.used()?.since(before, arguments.deployments);
        let peak = server.pss_mib()?;

        self.database.until_finished().await?;
        let counts = self.database.check(arguments.deployments).await;
        let counts = counts.with_context(|| server.complaints())?;
        let mut notes = vec![
            format!(
                "orchestrator: {idle:.1} MiB PSS before, {peak:.1} MiB with {} deployments known",
                arguments.deployments
            ),
            latencies(&fleet, &asked),
            counts,
        ];
        notes.extend(self.database.statements().await?);
        fleet.end()?;
        server.end().await?;
        let pace = Pace {
            per_second: arguments.deployments as f64 / took.as_secs_f64(),
            used,
        };
        Ok(Whole { pace, notes })
    }
}

/// Waits until the reports of all deployments are applied; when that was.
async fn until_applied(address: &str, fleet: &mut Fleet, deployments: usize) -> Result<Instant> {
    const REPORTS: f64 = 5.0;
    let mut client = load::Client::connect(address).await?;
    let patience = Instant::now() + Duration::from_secs(600);
    loop {
        let page = client.get("/metrics").await?;
        let now = Instant::now();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("longshore_reports_applied_total "));
        let applied: f64 = line.map_or(Ok(0.0), str::parse).context("a count")?;
        if applied >= REPORTS * deployments as f64 {
            return Ok(now);
        }
        fleet.check()?;
        anyhow::ensure!(now < patience, "only {applied} reports were applied");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn latencies(fleet: &Fleet, asked: &load::Asked) -> String {
    let arrivals = fleet
        .seen
        .arrivals
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut to_worker = Samples::default();
    to_worker.extend(arrivals.iter().filter_map(|(name, at)| {
        let sent = asked.sent.get(load::number(name)?)?;
        Some(at.saturating_duration_since(*sent).as_secs_f64() * 1000.0)
    }));
    let mut answers = Samples::default();
    answers.extend(asked.answers.iter().map(|took| took.as_secs_f64() * 1000.0));
    format!(
        "mutation to worker: p50 {:.0} ms, p99 {:.0} ms; a request answered: p50 {:.0} ms, p99 {:.0} ms",
        to_worker.quantile(0.5),
        to_worker.quantile(0.99),
        answers.quantile(0.5),
        answers.quantile(0.99)
    )
}
