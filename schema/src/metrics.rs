//! The figures of this process, for Prometheus.

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// How often figures that nobody scraped are folded together, so that they do not pile up.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

/// Why figures cannot be collected.
#[derive(Debug, thiserror::Error)]
#[error("starting to collect figures")]
pub struct MetricsError(#[source] BuildError);

/// Collects what is counted with the `metrics` macros and shows it at `/metrics`.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Starts to collect for the whole process.
    ///
    /// # Errors
    /// [`MetricsError`] when the process collects already.
    pub fn install() -> Result<Self, MetricsError> {
        let handle = PrometheusBuilder::new()
            .install_recorder()
            .map_err(MetricsError)?;
        Ok(Self { handle })
    }

    /// Shows nothing: for a server whose process collects elsewhere, and for tests.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            handle: PrometheusBuilder::new().build_recorder().handle(),
        }
    }

    /// Everything collected so far, in the text form of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what was measured since the last time together.
    pub(crate) fn fold(&self) {
        self.handle.run_upkeep();
    }
}
