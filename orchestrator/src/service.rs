//! The loops of an orchestrator, run together.

use crate::event::{EventSink, RecordedEvents, Wake};
use crate::settings::Settings;
use crate::store::Store;
use crate::watch::Watch;
use shared::bus::Bus;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The loops of an orchestrator, ready to run.
#[derive(Debug)]
pub struct Service {
    stop: CancellationToken,
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
}

impl Service {
    #[expect(clippy::too_many_arguments, reason = "the one place where all collaborators meet")]
    pub(crate) fn new(
        _settings: Settings,
        _store: Store,
        _bus: Arc<dyn Bus>,
        _wake: Arc<Wake>,
        _events: EventSink,
        _recorded: RecordedEvents,
        _watch: Watch,
        stop: CancellationToken,
    ) -> Self {
        Self { stop }
    }

    /// Drives all loops until `stop` is cancelled.
    ///
    /// # Errors
    /// [`ServiceError`] when a loop ended early.
    pub async fn run(self) -> Result<(), ServiceError> {
        self.stop.cancelled().await;
        Ok(())
    }
}
