//! The loops of an orchestrator, run together.

use crate::assigner::Assigner;
use crate::dead_letter::Keeper;
use crate::dispatcher::{self, Placer, Publisher};
use crate::event::{EventSink, RecordedEvents, Wake};
use crate::ingest::Ingest;
use crate::mover::Mover;
use crate::settings::Settings;
use crate::steward::Steward;
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::telemetry::Telemetry;
use crate::watch::{Announcer, Watch};
use crate::watcher::Watcher;
use shared::bus::{Bus, BusError};
use shared::id::OrchestratorId;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The loops of an orchestrator, ready to run.
pub struct Service {
    settings: Settings,
    store: Store,
    bus: Arc<dyn Bus>,
    wake: Arc<Wake>,
    events: EventSink,
    recorded: RecordedEvents,
    watch: Watch,
    stop: CancellationToken,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Why the loops ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A loop ended although nobody asked it to.
    #[error("the {name} ended")]
    Ended {
        /// Which one.
        name: &'static str,
    },
    /// The bus refuses what a loop needs.
    #[error("the {name} cannot use the bus")]
    Bus {
        /// Which one.
        name: &'static str,
        /// What it said.
        #[source]
        source: BusError,
    },
}

/// How a loop ended.
type Ending = (&'static str, Result<(), BusError>);

impl Service {
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where all collaborators meet"
    )]
    pub(crate) fn new(
        settings: Settings,
        store: Store,
        bus: Arc<dyn Bus>,
        wake: Arc<Wake>,
        events: EventSink,
        recorded: RecordedEvents,
        watch: Watch,
        stop: CancellationToken,
    ) -> Self {
        Self {
            settings,
            store,
            bus,
            wake,
            events,
            recorded,
            watch,
            stop,
        }
    }

    /// Drives all loops until `stop` is cancelled; then each ends what it is at.
    ///
    /// # Errors
    /// [`ServiceError`] when a loop ended early; the others are stopped then.
    pub async fn run(self) -> Result<(), ServiceError> {
        let stop = self.stop.clone();
        let mut loops = self.spawn();
        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let early = !stop.is_cancelled();
            let failure = match ended {
                Ok((name, Err(source))) => Some(ServiceError::Bus { name, source }),
                Ok((name, Ok(()))) => early.then_some(ServiceError::Ended { name }),
                // A panic has said more in the log.
                Err(_) => Some(ServiceError::Ended {
                    name: "loop that panicked",
                }),
            };
            if let Some(failure) = failure
                && outcome.is_ok()
            {
                outcome = Err(failure);
                stop.cancel();
            }
        }
        outcome
    }

    fn spawn(self) -> JoinSet<Ending> {
        let Self {
            settings,
            store,
            bus,
            wake,
            events,
            recorded,
            watch,
            stop,
        } = self;
        let me = OrchestratorId::new();
        let mut loops = JoinSet::new();

        let (orders, to_send) = mpsc::channel(dispatcher::ORDERS_AHEAD);
        let placer = Placer {
            store: store.clone(),
            events: events.clone(),
            wake: Arc::clone(&wake),
            orders,
        };
        let publisher = Publisher {
            store: store.clone(),
            bus: Arc::clone(&bus),
            wake: Arc::clone(&wake),
            orders: to_send,
        };
        let ingest = Ingest {
            store: store.clone(),
            bus: Arc::clone(&bus),
            events: events.clone(),
            wake: Arc::clone(&wake),
        };
        let supervisor = Supervisor {
            store: store.clone(),
            bus: Arc::clone(&bus),
            events: events.clone(),
            wake: Arc::clone(&wake),
        };
        let assigner = Assigner {
            store: store.clone(),
            bus: Arc::clone(&bus),
            wake: Arc::clone(&wake),
        };
        let mover = Mover {
            store: store.clone(),
            events: events.clone(),
            wake: Arc::clone(&wake),
        };
        let telemetry = Telemetry {
            store: store.clone(),
            bus: Arc::clone(&bus),
            hub: watch.hub(),
            events: events.clone(),
            wake: Arc::clone(&wake),
        };
        let steward = Steward {
            store: store.clone(),
            bus: Arc::clone(&bus),
            events: events.clone(),
            wake: Arc::clone(&wake),
        };
        let keeper = Keeper {
            store: store.clone(),
            bus: Arc::clone(&bus),
        };
        let announcer = Announcer::new(watch.hub(), bus, recorded, me);
        let watcher = Watcher::new(&settings, store, events, wake);

        loops.spawn(steady("placer", placer.run(stop.clone())));
        loops.spawn(steady("publisher", publisher.run(stop.clone())));
        loops.spawn(named("ingest", ingest.run(stop.clone())));
        loops.spawn(steady("supervisor", supervisor.run(stop.clone())));
        loops.spawn(steady("assigner", assigner.run(stop.clone())));
        loops.spawn(steady("mover", mover.run(stop.clone())));
        loops.spawn(named("telemetry", telemetry.run(stop.clone())));
        loops.spawn(steady("watcher", watcher.run(stop.clone())));
        loops.spawn(steady("steward", steward.run(stop.clone())));
        loops.spawn(named("keeper of dead letters", keeper.run(stop.clone())));
        loops.spawn(named("announcer", announcer.run(stop)));
        loops
    }
}

async fn named(name: &'static str, run: impl Future<Output = Result<(), BusError>>) -> Ending {
    (name, run.await)
}

/// A loop that nothing can end but the stop.
async fn steady(name: &'static str, run: impl Future<Output = ()>) -> Ending {
    run.await;
    (name, Ok(()))
}
