//! The world of one run: what outlives processes, and the processes, each started again after it died.

use crate::SimulationError;
use crate::broker::{Broker, ChaosBus};
use crate::dice::Dice;
use crate::life::Life;
use crate::machine::ChaosRuntime;
use crate::scenario::Scenario;
use crate::source::Repositories;
use crate::trace::Trace;
use crate::weather::{Weather, Who};
use node::journal::SimulatedDisk;
use node::runtime::simulated::SimulatedRuntime;
use node::{Node, NodeSettings};
use orchestrator::store::{SimulatedDatabase, Store};
use orchestrator::{Orchestrator, Settings};
use shared::id::DeploymentId;
use shared::name::NodeName;
use shared::secret::SecretString;
use shared::simulation::Gate;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The world of one run.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) trace: Trace,
    pub(crate) weather: Arc<Weather>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) database: SimulatedDatabase,
    pub(crate) repositories: Repositories,
    pub(crate) slots: Vec<Slot>,
    /// Deployments of which somebody removed or ended a container by hand: they may fail of it.
    disturbed: Mutex<BTreeSet<DeploymentId>>,
    /// Deployments that somebody stopped: nobody moves what stands still from a machine that is gone.
    stopped: Mutex<BTreeSet<DeploymentId>>,
    /// Whether a node was removed.
    has_removed: AtomicBool,
    /// Files of actions, a directory a life.
    directory: PathBuf,
    /// Whether things still go wrong.
    is_stormy: Mutex<bool>,
}

/// The place of one process: what outlives it, and its present life.
pub(crate) struct Slot {
    pub(crate) who: Who,
    pub(crate) machine: SimulatedRuntime,
    pub(crate) disk: SimulatedDisk,
    dice: Dice,
    present: Mutex<Option<Present>>,
    is_gone: AtomicBool,
}

/// The present life of a process.
struct Present {
    life: Arc<Life>,
    stop: CancellationToken,
    orchestrator: Option<Orchestrator>,
}

/// A process that was started.
struct Started {
    main: JoinHandle<Result<(), String>>,
    orchestrator: Option<Orchestrator>,
}

impl World {
    pub(crate) fn new(
        scenario: Scenario,
        database: SimulatedDatabase,
        directory: PathBuf,
        trace: Trace,
    ) -> Arc<Self> {
        let seed = scenario.seed;
        let weather = Arc::new(Weather::default());
        weather.sky().chaos = scenario.chaos;
        let broker = Broker::new(
            Arc::clone(&weather),
            Dice::new(seed, "broker"),
            trace.clone(),
        );
        let orchestrators = (0..scenario.orchestrators).map(Who::Orchestrator);
        let slots = orchestrators.chain((0..scenario.nodes).map(Who::Node));
        let slots = slots.map(|who| Slot {
            who,
            machine: SimulatedRuntime::default(),
            disk: SimulatedDisk::default(),
            dice: Dice::new(seed, &who.to_string()),
            present: Mutex::new(None),
            is_gone: AtomicBool::new(false),
        });
        Arc::new(Self {
            slots: slots.collect(),
            scenario,
            trace,
            weather,
            broker,
            database,
            repositories: Repositories::default(),
            disturbed: Mutex::default(),
            stopped: Mutex::default(),
            has_removed: AtomicBool::new(false),
            directory,
            is_stormy: Mutex::new(true),
        })
    }

    /// Starts every process and keeps each running until the runtime is gone.
    pub(crate) fn begin(self: &Arc<Self>) {
        for number in 0..self.slots.len() {
            let world = Arc::clone(self);
            tokio::spawn(async move { world.keep_running(number).await });
        }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn peace(&self) {
        self.trace.note(|| "peace".to_owned());
        *self.stormy() = false;
        self.weather.clear();
        self.broker.away(false);
        for slot in &self.slots {
            self.broker.cut(slot.who, false);
            slot.machine.engine_is_away(false);
            if let Some(present) = &*slot.present() {
                present.life.spare();
            }
        }
    }

    pub(crate) fn is_stormy(&self) -> bool {
        *self.stormy()
    }

    /// An orchestrator that runs now, any of them.
    pub(crate) fn orchestrator(&self, dice: &Dice) -> Option<(Who, Orchestrator)> {
        let running = self.slots.iter().filter_map(|slot| {
            let present = slot.present();
            let orchestrator = present.as_ref()?.orchestrator.clone()?;
            Some((slot.who, orchestrator))
        });
        let mut running: Vec<_> = running.collect();
        (!running.is_empty()).then(|| running.swap_remove(dice.place(running.len())))
    }

    /// Whether somebody laid hands on a container of this.
    pub(crate) fn is_disturbed(&self, deployment: DeploymentId) -> bool {
        let disturbed = self.disturbed.lock();
        disturbed
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&deployment)
    }

    pub(crate) fn disturb(&self, deployment: DeploymentId) {
        let disturbed = self.disturbed.lock();
        disturbed
            .unwrap_or_else(PoisonError::into_inner)
            .insert(deployment);
    }

    /// Somebody asked for this to stand still.
    pub(crate) fn stop(&self, deployment: DeploymentId) {
        let stopped = self.stopped.lock();
        stopped
            .unwrap_or_else(PoisonError::into_inner)
            .insert(deployment);
    }

    /// A node was taken out of the fleet, or somebody asked for that.
    pub(crate) fn remove(&self) {
        self.has_removed.store(true, Ordering::Relaxed);
    }

    /// Whether this may have stood still on a node that was removed: it failed with it.
    pub(crate) fn was_left_behind(&self, deployment: DeploymentId) -> bool {
        let stopped = self.stopped.lock();
        self.has_removed.load(Ordering::Relaxed)
            && stopped
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&deployment)
    }

    /// Every node that is there, running or not.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Slot> {
        self.all_nodes().filter(|slot| !slot.is_gone())
    }

    /// Every node that ever was there, also those whose machine is gone.
    pub(crate) fn all_nodes(&self) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .filter(|slot| matches!(slot.who, Who::Node(_)))
    }

    async fn keep_running(self: &Arc<Self>, number: usize) {
        let Some(slot) = self.slots.get(number) else {
            return;
        };
        let mut lives = 0;
        while !slot.is_gone() {
            lives += 1;
            let life = Arc::new(self.new_life(slot));
            let stop = CancellationToken::new();
            let started = self.start(slot, &life, &stop, lives);
            let Started {
                mut main,
                orchestrator,
            } = match started {
                Ok(started) => started,
                Err(error) => {
                    self.trace
                        .complain(format!("{} does not start: {error}", slot.who));
                    return;
                }
            };
            self.trace
                .note(|| format!("{} starts, life {lives}", slot.who));
            *slot.present() = Some(Present {
                life: Arc::clone(&life),
                stop: stop.clone(),
                orchestrator,
            });
            let ended = tokio::select! {
                biased;
                () = life.over() => {
                    main.abort();
                    None
                }
                ended = &mut main => Some(ended),
            };
            *slot.present() = None;
            life.end();
            match ended {
                None => self.trace.note(|| format!("{} is dead", slot.who)),
                Some(Ok(Ok(()))) if stop.is_cancelled() => {
                    self.trace.note(|| format!("{} has stopped", slot.who));
                }
                Some(Ok(Ok(()))) => {
                    self.trace
                        .complain(format!("{} ended although nobody asked it to", slot.who));
                }
                Some(Ok(Err(error))) => self.trace.complain(format!("{} ended: {error}", slot.who)),
                Some(Err(error)) => self.trace.complain(format!("{} ended: {error}", slot.who)),
            }
            let down = if slot.dice.happens(200) { 30_000 } else { 3000 };
            let down = if self.is_stormy() { down } else { 1000 };
            tokio::time::sleep(slot.dice.millis(1, down)).await;
        }
    }

    fn new_life(&self, slot: &Slot) -> Life {
        let dies = self.scenario.faults.crashes && self.is_stormy() && slot.dice.happens(500);
        // Small numbers are as likely as large ones: much that matters happens early in a life.
        let most = 1 << slot.dice.between(2, 11);
        let dies_at = dies.then(|| slot.dice.between(1, most));
        Life::new(
            slot.who,
            Arc::clone(&self.weather),
            slot.dice.clone(),
            self.trace.clone(),
            dies_at,
        )
    }

    fn start(
        &self,
        slot: &Slot,
        life: &Arc<Life>,
        stop: &CancellationToken,
        lives: u32,
    ) -> Result<Started, SimulationError> {
        let bus = Arc::new(ChaosBus::connect(&self.broker, life));
        let gate: Arc<dyn Gate> = Arc::clone(life) as Arc<dyn Gate>;
        match slot.who {
            Who::Orchestrator(_) => {
                let store = Store::simulated(&self.database, gate);
                let settings = Settings::new(SecretString::from(String::new()));
                let (orchestrator, service) = Orchestrator::on(store, settings, bus, stop.clone());
                let main =
                    tokio::spawn(
                        async move { service.run().await.map_err(|error| error.to_string()) },
                    );
                Ok(Started {
                    main,
                    orchestrator: Some(orchestrator),
                })
            }
            Who::Node(_) => {
                let name = NodeName::parse(&slot.who.to_string())
                    .map_err(|error| SimulationError::Setup(error.to_string()))?;
                let directory = self.directory.join(format!("{name}-{lives}"));
                let mut settings = NodeSettings::new(name, directory);
                settings.slots = 2;
                settings.stop_grace = Duration::from_secs(1);
                settings.drain = Duration::from_secs(1);
                let runtime = Arc::new(ChaosRuntime {
                    engine: slot.machine.clone(),
                    life: Arc::clone(life),
                    trace: self.trace.clone(),
                    repositories: self.repositories.clone(),
                    dice: slot.dice.clone(),
                });
                let service = Node::start_simulated(
                    settings,
                    bus,
                    runtime,
                    slot.disk.clone(),
                    gate,
                    stop.clone(),
                )
                .map_err(|error| SimulationError::Setup(error.to_string()))?;
                let main =
                    tokio::spawn(
                        async move { service.run().await.map_err(|error| error.to_string()) },
                    );
                Ok(Started {
                    main,
                    orchestrator: None,
                })
            }
        }
    }

    fn stormy(&self) -> MutexGuard<'_, bool> {
        self.is_stormy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The process dies now, if it runs.
    pub(crate) fn kill(&self) {
        if let Some(present) = &*self.present() {
            present.life.end();
        }
    }

    /// The machine is gone, with all that is on it.
    pub(crate) fn lose(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.kill();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// The process is told to end.
    pub(crate) fn tell_to_stop(&self) {
        if let Some(present) = &*self.present() {
            present.stop.cancel();
        }
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
