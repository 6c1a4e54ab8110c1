//! G10 and G11: subscriptions and mutations through the real API, over async-graphql and axum as
//! they come, in the same run.

pub(crate) mod floor;
mod socket;

use crate::control::check::Database;
use crate::control::load::{self, Asking};
use crate::control::process::Server;
use crate::table::Samples;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// What is measured.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Subscribers of every event.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Events that all of them hear as fast as possible.
    #[arg(long, default_value_t = 300)]
    events: usize,
    /// Events a second when it is looked at how long one takes.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Clients that send mutations.
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Mutations.
    #[arg(long, default_value_t = 20_000)]
    mutations: usize,
    /// Rounds; each measures both contenders.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub(crate) async fn run(binary: &Path, arguments: Arguments) -> Result<()> {
    println!(
        "{} subscribers, {} clients; median of {} rounds",
        arguments.subscribers, arguments.clients, arguments.rounds
    );
    let (mut bare, mut whole) = (Figures::default(), Figures::default());
    for round in 0..arguments.rounds {
        for contender in 0..2 {
            if (round + contender) % 2 == 0 {
                bare.add(Contender::bare().await?.measure(arguments).await?);
            } else {
                whole.add(Contender::whole(binary).await?.measure(arguments).await?);
            }
        }
    }
    println!(
        "{:<44} {:>10} {:>10} {:>7}",
        "", "floor", "longshore", "ratio"
    );
    let row = |name: &str, pick: fn(&Figures) -> &Samples| {
        let (bare, whole) = (pick(&bare).median(), pick(&whole).median());
        println!(
            "{name:<44} {bare:>10.0} {whole:>10.0} {:>6.2}x",
            whole / bare
        );
    };
    row("events to subscribers, messages a second", |figures| {
        &figures.messages
    });
    row("an event heard, p50 in ms", |figures| &figures.delay_p50);
    row("an event heard, p99 in ms", |figures| &figures.delay_p99);
    row("memory a subscriber, KiB", |figures| &figures.subscriber);
    row("mutations a second", |figures| &figures.mutations);
    row("a mutation answered, p99 in ms", |figures| {
        &figures.answer_p99
    });
    Ok(())
}

/// What was measured of one contender, a sample a round.
#[derive(Default)]
struct Figures {
    messages: Samples,
    delay_p50: Samples,
    delay_p99: Samples,
    subscriber: Samples,
    mutations: Samples,
    answer_p99: Samples,
}

impl Figures {
    fn add(&mut self, round: Round) {
        self.messages.extend([round.messages]);
        self.delay_p50.extend([round.delays.quantile(0.5)]);
        self.delay_p99.extend([round.delays.quantile(0.99)]);
        self.subscriber.extend([round.subscriber_kib]);
        self.mutations.extend([round.mutations]);
        self.answer_p99.extend([round.answers.quantile(0.99)]);
    }
}

struct Round {
    messages: f64,
    delays: Samples,
    subscriber_kib: f64,
    mutations: f64,
    answers: Samples,
}

/// A server with a database of its own.
struct Contender {
    address: String,
    process: Process,
    // Dropped last: the server uses them.
    _database: Database,
    _broker: Option<testkit::services::Broker>,
    _directory: tempfile::TempDir,
}

enum Process {
    Bare(Child),
    Whole(Server),
}

impl Contender {
    async fn bare() -> Result<Self> {
        let (database, directory) = (Database::create().await?, tempfile::tempdir()?);
        let address = format!("127.0.0.1:{}", testkit::free_port());
        let child = Command::new(std::env::current_exe()?)
            .args(["floor-api", "--listen", &address])
            .env("LONGSHORE_DATABASE_URL", &database.url)
            .kill_on_drop(true)
            .spawn()?;
        let patience = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            anyhow::ensure!(Instant::now() < patience, "the floor did not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            address,
            process: Process::Bare(child),
            _database: database,
            _broker: None,
            _directory: directory,
        })
    }

    async fn whole(binary: &Path) -> Result<Self> {
        let (database, directory) = (Database::create().await?, tempfile::tempdir()?);
        let broker = testkit::services::Broker::create().await;
        let server = Server::start(binary, &database.url, &broker.url, directory.path()).await?;
        Ok(Self {
            address: server.address.clone(),
            process: Process::Whole(server),
            _database: database,
            _broker: Some(broker),
            _directory: directory,
        })
    }

    fn pss_kib(&self) -> Result<f64> {
        let pid = match &self.process {
            Process::Bare(child) => child.id().context("the floor runs")?,
            Process::Whole(server) => server.pid()?,
        };
        Ok(crate::memory::pss_mib(pid)? * 1024.0)
    }

    async fn measure(self, arguments: Arguments) -> Result<Round> {
        let begun = Instant::now();
        let asking = Asking {
            deployments: arguments.mutations,
            connections: arguments.clients,
            aliases: 1,
            rate: None,
        };
        let asked = load::ask(&self.address, "m", asking).await?;
        let mutations = arguments.mutations as f64 / begun.elapsed().as_secs_f64();
        let mut answers = Samples::default();
        answers.extend(asked.answers.iter().map(|took| took.as_secs_f64() * 1000.0));

        let before = self.pss_kib()?;
        let (delays_in, mut delays_out) = mpsc::unbounded_channel();
        let (heard, _readers) =
            socket::subscribe(&self.address, arguments.subscribers, &delays_in).await?;
        let wanted = |events: usize| events * arguments.subscribers;

        // One at a time at first: how long an event takes.
        let calm = (arguments.rate * 5.0) as usize;
        let asking = Asking {
            deployments: calm,
            connections: 4,
            aliases: 1,
            rate: Some(arguments.rate),
        };
        load::ask(&self.address, "c", asking).await?;
        until(&heard, wanted(calm)).await?;
        let mut delays = Samples::default();
        while let Ok(delay) = delays_out.try_recv() {
            delays.extend([delay]);
        }
        let subscriber_kib = (self.pss_kib()? - before) / arguments.subscribers as f64;

        let begun = Instant::now();
        let asking = Asking {
            deployments: arguments.events,
            connections: 16,
            aliases: 1,
            rate: None,
        };
        load::ask(&self.address, "b", asking).await?;
        until(&heard, wanted(calm + arguments.events)).await?;
        let messages = wanted(arguments.events) as f64 / begun.elapsed().as_secs_f64();
        Ok(Round {
            messages,
            delays,
            subscriber_kib,
            mutations,
            answers,
        })
    }
}

async fn until(heard: &socket::Heard, messages: usize) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(120);
    while heard.messages.load(Ordering::Relaxed) < messages {
        anyhow::ensure!(Instant::now() < patience, "only {heard:?} of {messages}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
