//! A machine that exists in memory only: containers are entries in a table, and what a source, a
//! build or a container does is what the test said.
//!
//! The machine outlives the node on it, as a real one does: give a clone of the same
//! [`SimulatedRuntime`] to the next node, and it finds the containers of the one before.

mod runtime;
mod source;

pub use source::{Behaviour, Step};

use super::{ContainerFacts, ContainerState, EngineEvent, PortRoute, RuntimeError};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// The least time between two lines of a container.
const TICK: TimeDelta = TimeDelta::nanoseconds(1);

/// A machine in memory. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct SimulatedRuntime {
    machine: Arc<Mutex<Machine>>,
    happened: broadcast::Sender<EngineEvent>,
}

#[derive(Debug, Default)]
struct Machine {
    behaviour: Behaviour,
    is_away: bool,
    containers: BTreeMap<String, SimulatedContainer>,
    images: BTreeSet<String>,
    routes: BTreeMap<u16, PortRoute>,
    taken_ports: BTreeSet<u16>,
    made: u32,
    builds: u32,
    steps: Vec<String>,
}

/// A container of a [`SimulatedRuntime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedContainer {
    /// What its labels say.
    pub facts: ContainerFacts,
    /// How it is.
    pub state: ContainerState,
    /// Its address.
    pub address: Ipv4Addr,
    answers: bool,
    exits: Option<i64>,
    /// What it printed, and when: a line with each start.
    printed: Vec<(DateTime<Utc>, String)>,
}

impl SimulatedContainer {
    fn print(&mut self) {
        let now = shared::clock::now();
        // No two lines of a log are of one moment.
        let after = self.printed.last().map(|(last, _)| *last + TICK);
        let at = after.map_or(now, |after| after.max(now));
        let number = self.printed.len() + 1;
        let line = format!("line {number} of {}", self.facts.id);
        self.printed.push((at, line));
    }
}

impl Default for SimulatedRuntime {
    fn default() -> Self {
        Self {
            machine: Arc::default(),
            happened: broadcast::channel(1024).0,
        }
    }
}

impl SimulatedRuntime {
    /// Says what happens from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.machine().behaviour);
    }

    /// The engine goes away, or comes back.
    pub fn engine_is_away(&self, is_away: bool) {
        self.machine().is_away = is_away;
    }

    /// Something else on the machine takes a port.
    pub fn take_port(&self, port: u16) {
        self.machine().taken_ports.insert(port);
    }

    /// Every container.
    #[must_use]
    pub fn containers(&self) -> Vec<SimulatedContainer> {
        self.machine().containers.values().cloned().collect()
    }

    /// Where ports lead.
    #[must_use]
    pub fn routes(&self) -> Vec<PortRoute> {
        self.machine().routes.values().copied().collect()
    }

    /// Every image that was built.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        self.machine().images.iter().cloned().collect()
    }

    /// How many builds were done.
    #[must_use]
    pub fn builds(&self) -> u32 {
        self.machine().builds
    }

    /// What was asked of this machine, in order: `fetch`, `build`, `create 1.1` and the like.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.machine().steps.clone()
    }

    /// A container ends, and the engine starts it again.
    pub fn crash(&self, container: &str, exit_code: i64) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.state.restarts += 1;
            found.state.exit_code = exit_code;
            found.print();
        }
        self.say(EngineEvent::Died {
            container: container.to_owned(),
            exit_code,
        });
        self.say(EngineEvent::Changed {
            container: container.to_owned(),
        });
    }

    /// Somebody stops a container by hand: the engine leaves it stopped.
    pub fn stop_by_hand(&self, container: &str) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.state.running = false;
            found.state.exit_code = 137;
        }
        self.say(EngineEvent::Died {
            container: container.to_owned(),
            exit_code: 137,
        });
    }

    /// Somebody removes a container by hand.
    pub fn remove_by_hand(&self, container: &str) {
        self.machine().containers.remove(container);
        self.say(EngineEvent::Changed {
            container: container.to_owned(),
        });
    }

    /// From its next start on a container ends at once, with this exit code.
    pub fn ends_at_once(&self, container: &str, exit_code: i64) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.exits = Some(exit_code);
        }
    }

    /// From now on a container answers, or does not.
    pub fn answer(&self, container: &str, answers: bool) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.answers = answers;
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, when its engine answers.
    fn engine_machine(&self) -> Result<MutexGuard<'_, Machine>, RuntimeError> {
        let machine = self.machine();
        if machine.is_away {
            Err(RuntimeError::Away("it was switched off".to_owned()))
        } else {
            Ok(machine)
        }
    }

    fn say(&self, event: EngineEvent) {
        // Nobody has to listen.
        let _ = self.happened.send(event);
    }
}
