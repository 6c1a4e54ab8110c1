//! The engine: what people may ask for, the rows that hold it, and the loops that make it so.
//!
//! The database is the truth, the bus is the transport, the node is the hand. A command writes rows
//! and wakes a loop; each loop is level-triggered over rows and keeps nothing that a restart would
//! lose. Knows nothing of GraphQL.
//!
//! Reading order: [`view`] (what is answered), [`command`] and [`query`] (what is asked), [`store`]
//! (the few transactions that matter), then the loops.

pub mod command;
pub mod error;
pub mod event;
pub mod moving;
pub mod ports;
pub mod query;
pub mod scheduler;
pub mod settings;
pub mod store;
pub mod view;
pub mod watch;

mod assigner;
mod dead_letter;
mod dispatcher;
pub mod draining;
mod ingest;
mod mover;
mod service;
mod steward;
mod supervisor;
mod telemetry;
mod watcher;

pub use command::Commands;
pub use dead_letter::DeadLetters;
pub use error::{CommandError, StartError};
pub use query::Queries;
pub use service::{Service, ServiceError};
pub use settings::Settings;
pub use watch::Watch;

use event::{EventSink, Wake};
use shared::bus::{Bus, BusHealth};
use std::sync::Arc;
use store::Store;
use tokio_util::sync::CancellationToken;

/// A handle on a running orchestrator; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Commands,
    queries: Queries,
    watch: Watch,
    dead_letters: DeadLetters,
    store: Store,
    bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestrator").finish_non_exhaustive()
    }
}

/// Whether what the orchestrator depends on answers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The database; why not, in words without credentials, when it does not answer.
    pub database: Result<(), String>,
    /// The bus.
    pub bus: BusHealth,
}

impl Health {
    /// Whether requests can be taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.database.is_ok() && self.bus == BusHealth::Up
    }
}

impl Orchestrator {
    /// Connects to the database, waiting with back-off and saying so while it does not answer,
    /// brings its schema up to date, and returns the handle. Nothing moves until
    /// [`Service::run`] drives the loops.
    ///
    /// # Errors
    /// [`StartError`] when the settings cannot work, the schema cannot be brought up to date, or
    /// `stop` was cancelled while waiting.
    pub async fn start(
        settings: Settings,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
    ) -> Result<(Self, Service), StartError> {
        let store = Store::open(&settings.database_url, &stop).await?;
        Ok(Self::on(store, settings, bus, stop))
    }

    /// The same over a database that is open already, such as one of a simulation. The URL of the
    /// settings is not used.
    #[must_use]
    pub fn on(
        store: Store,
        settings: Settings,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
    ) -> (Self, Service) {
        let wake = Arc::new(Wake::default());
        let (events, recorded) = EventSink::channel();
        let watch = Watch::new(store.clone(), Arc::clone(&bus));
        let commands = Commands::new(
            store.clone(),
            settings.git_policy(),
            events.clone(),
            Arc::clone(&wake),
        );
        let queries = Queries::new(store.clone());
        let inner = Inner {
            commands,
            queries,
            watch: watch.clone(),
            dead_letters: DeadLetters::new(store.clone(), Arc::clone(&bus)),
            store: store.clone(),
            bus: Arc::clone(&bus),
        };
        let service = Service::new(settings, store, bus, wake, events, recorded, watch, stop);
        let orchestrator = Self {
            inner: Arc::new(inner),
        };
        (orchestrator, service)
    }

    /// What people may ask for.
    #[must_use]
    pub fn commands(&self) -> &Commands {
        &self.inner.commands
    }

    /// What people may read.
    #[must_use]
    pub fn queries(&self) -> &Queries {
        &self.inner.queries
    }

    /// What people may follow.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.inner.watch
    }

    /// What people may do about messages that nobody could handle.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.inner.dead_letters
    }

    /// Asks database and bus whether they answer; takes at most two seconds.
    pub async fn health(&self) -> Health {
        let database = self
            .inner
            .store
            .ping()
            .await
            .map_err(|error| error.to_string());
        let bus = self.inner.bus.health().borrow().clone();
        Health { database, bus }
    }
}
