//! The services of one process, run together until the first ends or somebody asks for the end.

use anyhow::{Context, anyhow};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long services may take to end. The listener gives its requests five seconds of it.
const GRACE: Duration = Duration::from_secs(15);

/// The services of one process.
pub(crate) struct Services {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Services {
    /// None yet. From now on SIGINT and SIGTERM ask for the end; a second one does not wait for it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let stop = CancellationToken::new();
        let asked = stop.clone();
        // Ends with the runtime: until then a signal may come.
        tokio::spawn(async move {
            let mut received = async || {
                tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                }
            };
            received().await;
            tracing::info!("stopping; asked once more, it ends at once");
            asked.cancel();
            std::process::exit(received().await)
        });
        Ok(Self {
            set: JoinSet::new(),
            stop,
        })
    }

    /// Cancelled when everything shall end.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Adds a service, which runs from now on and should end soon after [`Self::stop`] is cancelled.
    pub(crate) fn add<E>(
        &mut self,
        name: &'static str,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<anyhow::Error>,
    {
        self.set
            .spawn(async move { (name, service.await.map_err(Into::into)) });
    }

    /// Runs until one ends or the end is asked for; gives the others the grace period.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let first = tokio::select! {
            () = self.stop.cancelled() => None,
            ended = self.set.join_next() => ended,
        };
        let asked = self.stop.is_cancelled();
        self.stop.cancel();
        let mut failure = first.and_then(|ended| failure(ended, asked));
        let draining = async {
            while let Some(ended) = self.set.join_next().await {
                let later = self::failure(ended, true);
                if let Some(error) = later {
                    tracing::error!(error = %format!("{error:#}"), "a service did not end well");
                    failure.get_or_insert(error);
                }
            }
        };
        if timeout(GRACE, draining).await.is_err() {
            tracing::warn!(
                grace_s = GRACE.as_secs(),
                "services outlived the grace period"
            );
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Why a service's end is a failure, if it is one. `asked`: it was told to end.
fn failure(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
    asked: bool,
) -> Option<anyhow::Error> {
    match ended {
        Ok((_, Ok(()))) if asked => None,
        Ok((name, Ok(()))) => Some(anyhow!("the {name} ended by itself")),
        Ok((name, Err(error))) => Some(error.context(format!("the {name} failed"))),
        Err(error) => Some(anyhow!(error).context("a service crashed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[tokio::test]
    async fn one_that_fails_stops_the_rest() {
        let mut services = Services::new().unwrap();
        let stop = services.stop();
        services.add("patient", async move {
            stop.cancelled().await;
            Ok::<(), Infallible>(())
        });
        services.add("broken", async { Err(anyhow!("no luck")) });
        let error = services.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the broken failed: no luck");
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_is_no_failure() {
        let mut services = Services::new().unwrap();
        let stop = services.stop();
        let asked = stop.clone();
        services.add("patient", async move {
            stop.cancelled().await;
            Ok::<(), Infallible>(())
        });
        asked.cancel();
        services.run().await.unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_a_failure() {
        let mut services = Services::new().unwrap();
        services.add("short", async { Ok::<(), Infallible>(()) });
        assert_eq!(
            services.run().await.unwrap_err().to_string(),
            "the short ended by itself"
        );
    }
}
