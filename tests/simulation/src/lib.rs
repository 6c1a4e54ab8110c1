//! The whole control plane in one process, in bad weather: real orchestrators and real nodes over a
//! broker that loses, doubles, delays and reorders, with simulated time, simulated container engines
//! and processes that die between any two effects.
//!
//! A seed decides everything: who is there, what users ask for, what fails and when. The same seed
//! gives the same run, so that a run that failed can be looked at again. After the storm there is
//! peace, and within a bounded time everything must agree: see `oracle`.
//!
//! Reading order: `scenario` (what a seed stands for), `world` (processes and what outlives them),
//! `life` (how they die), `broker`, `machine`, `user`, `operator` and `strike` (what happens), `oracle`
//! (what must hold).

mod broker;
mod dice;
mod life;
mod machine;
mod operator;
mod oracle;
mod scenario;
mod source;
mod strike;
mod trace;
mod user;
mod weather;
mod world;

pub use shared::simulation::Rule;

use crate::dice::Dice;
use crate::life::Life;
use crate::scenario::{Demands, Faults, Scenario};
use crate::trace::Trace;
use crate::weather::{Weather, Who};
use crate::world::World;
use chrono::{DateTime, Utc};
use orchestrator::store::{SimulatedDatabase, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after the storm everything may take to agree, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same where a rule is broken and nobody expects them to.
const LITTLE_PATIENCE: Duration = Duration::from_secs(90);
/// How long to wait between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// How long agreement must last.
const LASTS: Duration = Duration::from_secs(20);

/// Why a run could not be made, whatever it would have shown.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The database of a run.
    #[error("the simulated database")]
    Store(#[from] StoreError),
    /// Files of a run.
    #[error("the files of a run")]
    Files(#[from] std::io::Error),
    /// The world could not be set up.
    #[error("setting up the world: {0}")]
    Setup(String),
}

/// What is made once for many runs.
#[derive(Debug)]
pub struct Stage {
    directory: tempfile::TempDir,
}

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether to keep what happened.
    pub traced: bool,
    /// A rule of the product that is broken, to see that it is noticed.
    pub broken: Option<Rule>,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was not as it must be; nothing when all was well.
    pub findings: Vec<String>,
    /// What happened, when the run was traced.
    pub trace: Vec<String>,
    /// How long after the storm everything agreed, in simulated time.
    pub converged_in: Duration,
    /// Follows from every effect of every process and its time: two runs with the same digest were the
    /// same run.
    pub digest: u64,
}

impl Stage {
    /// Prepares what all runs share. Blocks.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub fn new() -> Result<Self, SimulationError> {
        // In memory where there is such a place: every run has its own small database.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let directory = tempfile::Builder::new()
            .prefix("longshore-simulation-")
            .tempdir_in(place)?;
        let stage = Self { directory };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(SimulatedDatabase::make_template(&stage.template()))?;
        Ok(stage)
    }

    fn template(&self) -> PathBuf {
        self.directory.path().join("template.db")
    }

    /// Makes one run on this thread. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`SimulationError`] when it could not be made.
    pub fn run(&self, seed: u64, options: Options) -> Result<Outcome, SimulationError> {
        let directory = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(self.directory.path())?;
        let database = directory.path().join("run.db");
        std::fs::copy(self.template(), &database)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(run(seed, options, &database, directory.path()))
    }
}

/// When every run begins.
fn beginning() -> DateTime<Utc> {
    // 2026-01-01; any moment will do.
    DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default()
}

async fn run(
    seed: u64,
    options: Options,
    database: &Path,
    directory: &Path,
) -> Result<Outcome, SimulationError> {
    let _world = shared::simulation::World::enter(seed, beginning()).breaking(options.broken);
    // The jitter of back-offs.
    fastrand::seed(seed);
    let trace = Trace::new(options.traced);
    let database = SimulatedDatabase::open(database)?;
    let scenario = Scenario::of(seed, Faults::PROMISED, Demands::PROMISED);
    trace.note(|| format!("{scenario:?}"));
    let storm = scenario.storm;
    let world = World::new(scenario, database, directory.to_owned(), trace.clone());
    world.begin();
    strike::begin(&world);
    operator::begin(&world);
    let promises = user::begin(&world);
    tokio::time::sleep(storm).await;
    world.peace();
    let peace = Instant::now();
    let patience = if options.broken.is_some() {
        LITTLE_PATIENCE
    } else {
        PATIENCE
    };
    let findings = until_well(&world, &promises, patience).await?;
    let converged_in = peace.elapsed();
    trace.note(|| format!("{} findings", findings.len()));
    for finding in &findings {
        trace.note(|| format!("FOUND: {finding}"));
    }
    Ok(Outcome {
        seed,
        findings,
        trace: trace.lines(),
        converged_in,
        digest: trace.digest(),
    })
}

/// Looks until everything agrees and goes on to; what still does not after a long time.
async fn until_well(
    world: &World,
    promises: &user::Promises,
    patience: Duration,
) -> Result<Vec<String>, SimulationError> {
    // The oracle is nobody that could die.
    let oracle = Life::new(
        Who::Orchestrator(usize::MAX),
        Arc::new(Weather::default()),
        Dice::new(0, "oracle"),
        Trace::new(false),
        None,
    );
    let store = Store::simulated(&world.database, Arc::new(oracle));
    let begun = Instant::now();
    let mut well_since = None;
    loop {
        let mut findings = oracle::judge(world, &store.picture().await?, promises);
        // These do not become well again.
        let broken = world.database.broken_rules()?;
        let lasting: Vec<_> = world.trace.complaints().into_iter().chain(broken).collect();
        if !lasting.is_empty() {
            findings.splice(0..0, lasting);
            return Ok(findings);
        }
        if findings.is_empty() {
            let since: Instant = *well_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= LASTS {
                return Ok(findings);
            }
        } else {
            well_since = None;
            if begun.elapsed() >= patience {
                return Ok(findings);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
