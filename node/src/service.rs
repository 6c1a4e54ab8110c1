//! Starting a node and running it until it is told to stop.

use crate::action::{retire, routes};
use crate::assignments::{self, Pictures};
use crate::config::NodeSettings;
use crate::core::{Core, EngineState};
use crate::error::{ServiceError, StartError};
use crate::journal::Journal;
use crate::lanes::{Lanes, unfinished_deploys};
use crate::log_sink::QUEUE_LIMIT;
use crate::logs::Followers;
use crate::runtime::Runtime;
use crate::runtime::local::LocalRuntime;
use crate::state_dir::StateDir;
use crate::watch::Sentinels;
use crate::{engine, heartbeat, holds, outbox, telemetry, worker};
use shared::bus::Bus;
use shared::message::TelemetryItem;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long actions may take to let go when the node stops.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// A node that is ready to run.
pub struct Node;

/// A node's own loops, to be driven until they end.
pub struct Service {
    core: Arc<Core>,
    bus: Arc<dyn Bus>,
    engine: watch::Sender<EngineState>,
    log_lines: mpsc::Receiver<TelemetryItem>,
}

impl Node {
    /// Prepares a node on this machine: vets its settings, locks its state directory and reads its
    /// journal. Neither the bus nor the engine has to be there yet. The node stops when `stop` is
    /// cancelled; what it started goes on running.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        settings: NodeSettings,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
    ) -> Result<Service, StartError> {
        Self::prepare(settings, bus, stop, |settings, state_dir| {
            Ok(Arc::new(LocalRuntime::new(settings, state_dir)?))
        })
        .await
    }

    /// The same over another world, such as [`crate::runtime::simulated`].
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on(
        settings: NodeSettings,
        bus: Arc<dyn Bus>,
        runtime: Arc<dyn Runtime>,
        stop: CancellationToken,
    ) -> Result<Service, StartError> {
        Self::prepare(settings, bus, stop, |_, _| Ok(runtime)).await
    }

    async fn prepare(
        settings: NodeSettings,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
        runtime: impl FnOnce(&NodeSettings, &StateDir) -> Result<Arc<dyn Runtime>, StartError>
        + Send
        + 'static,
    ) -> Result<Service, StartError> {
        settings.validate()?;
        // Opening and repairing files blocks.
        let opened = tokio::task::spawn_blocking(move || {
            let state_dir = StateDir::open(&settings.state_dir)?;
            let journal = Journal::open(&state_dir.journal())?;
            let runtime = runtime(&settings, &state_dir)?;
            Ok::<_, StartError>((settings, state_dir, journal, runtime))
        });
        let (settings, state_dir, journal, runtime) = match opened.await {
            Ok(opened) => opened?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        Ok(Self::over(settings, state_dir, journal, runtime, bus, stop))
    }

    /// One life of a node over another world, with a journal in memory that outlives it. The state
    /// directory holds only the files of actions and must be this life's own.
    ///
    /// # Errors
    /// [`StartError`].
    #[cfg(feature = "simulation")]
    pub fn start_simulated(
        settings: NodeSettings,
        bus: Arc<dyn Bus>,
        runtime: Arc<dyn Runtime>,
        disk: crate::journal::SimulatedDisk,
        gate: Arc<dyn shared::simulation::Gate>,
        stop: CancellationToken,
    ) -> Result<Service, StartError> {
        settings.validate()?;
        let state_dir = StateDir::open(&settings.state_dir)?;
        let journal = Journal::simulated(disk, gate)?;
        Ok(Self::over(settings, state_dir, journal, runtime, bus, stop))
    }

    fn over(
        settings: NodeSettings,
        state_dir: StateDir,
        journal: Journal,
        runtime: Arc<dyn Runtime>,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
    ) -> Service {
        let (engine, engine_state) = watch::channel(EngineState::Unknown);
        let (log_lines_out, log_lines) = mpsc::channel(QUEUE_LIMIT);
        let slots = Arc::new(Semaphore::new(
            usize::try_from(settings.slots).unwrap_or(usize::MAX),
        ));
        let core = Core {
            settings,
            state_dir,
            journal,
            runtime,
            telemetry: log_lines_out,
            events: broadcast::channel(1024).0,
            engine: engine_state,
            routes: routes::Routes::default(),
            sentinels: Sentinels::default(),
            pictures: Pictures::default(),
            slots,
            changed: Notify::new(),
            tasks: TaskTracker::new(),
            stop,
        };
        Service {
            core: Arc::new(core),
            bus,
            engine,
            log_lines,
        }
    }
}

impl Service {
    /// Runs until it is told to stop. Actions under way are interrupted and stay in the journal;
    /// containers and ports stay as they are.
    ///
    /// # Errors
    /// [`ServiceError`] when a loop of it ended early; the others are stopped then.
    pub async fn run(self) -> Result<(), ServiceError> {
        let Self {
            core,
            bus,
            engine,
            log_lines,
        } = self;
        let lanes = Lanes::default();
        let mut loops: JoinSet<Result<(), ServiceError>> = JoinSet::new();
        let (stop, runtime) = (core.stop.clone(), core.runtime.clone());
        // Log lines go on a while longer: the last ones are written while the node stops.
        let log_lines_stop = CancellationToken::new();
        let log_lines = tokio::spawn(telemetry::run(
            log_lines,
            bus.clone(),
            log_lines_stop.clone(),
        ));
        loops.spawn(always_well(engine::supervise(
            runtime.clone(),
            engine,
            stop.clone(),
        )));
        loops.spawn(always_well(engine::relay_events(
            runtime,
            core.events.clone(),
            stop.clone(),
        )));
        loops.spawn(always_well(heartbeat::run(core.clone(), bus.clone())));
        loops.spawn(always_well(holds::run(core.clone(), bus.clone())));
        loops.spawn(always_well(outbox::run(core.clone(), bus.clone())));
        recover(&core, &lanes).await;
        loops.spawn(always_well(engine::keep_ports_open(core.clone())));
        loops.spawn(always_well(assignments::run(core.clone(), lanes.clone())));
        loops.spawn(always_well(assignments::keep(core.clone(), lanes.clone())));
        loops.spawn(worker::run(
            core.clone(),
            bus.clone(),
            lanes,
            Followers::default(),
        ));
        tracing::info!(node = %core.settings.name, slots = core.settings.slots, "the node runs");

        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended.map_err(ServiceError::from).flatten();
            stop.cancel();
            outcome = outcome.and(ended);
        }
        core.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, core.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = core.tasks.len(),
                "actions outlived the time they had to let go; the next start cleans up"
            );
        }
        outbox::flush(&core, &*bus).await;
        log_lines_stop.cancel();
        let log_lines = log_lines.await.map_err(ServiceError::from);
        core.journal.close().await;
        outcome.and(log_lines)
    }
}

async fn always_well(work: impl Future<Output = ()>) -> Result<(), ServiceError> {
    work.await;
    Ok(())
}

/// Takes up where the process before this one ended: ports lead where the journal says, what runs
/// is watched, what was on its way out goes, and unfinished work is begun again.
async fn recover(core: &Arc<Core>, lanes: &Lanes) {
    let table = core.journal.read(routes::journalled);
    core.routes.adopt(table).await;
    if let Err(error) = core.routes.refresh(&*core.runtime).await {
        tracing::warn!(%error, "ports do not lead where they should yet; trying again");
    }
    let (records, leaving, begun_again) = core.journal.read(|state| {
        let records: Vec<_> = state.deployments.values().cloned().collect();
        let begun_again: HashSet<_> = unfinished_deploys(state).collect();
        (records, state.leaving.clone(), begun_again)
    });
    for record in &records {
        // What is leaving is not brought back; the next picture takes it up where it was left.
        if !leaving.contains(&record.deployment_id) {
            core.sentinels.follow(core, record.deployment_id);
        }
        for attempt in &record.retiring {
            // A deployment action that is begun again removes what its first try left by itself.
            if !begun_again.contains(&(record.deployment_id, *attempt)) {
                retire(core, record.deployment_id, *attempt, Vec::new());
            }
        }
    }
    shared::fail_point!("node::recover::before_work");
    let unfinished: Vec<_> = core
        .journal
        .read(|state| state.unfinished().cloned().collect());
    let (deployments, work) = (records.len(), unfinished.len());
    for entry in unfinished {
        lanes.push(core, entry);
    }
    if deployments + work > 0 {
        tracing::info!(deployments, work, "taking up what an earlier process left");
    }
}
