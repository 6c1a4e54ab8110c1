//! Waiting between two tries: longer each time, with jitter, from the start again after a success.

use backon::BackoffBuilder as _;
use std::time::Duration;

/// A row of waits that never ends.
#[derive(Debug)]
pub(crate) struct Backoff {
    longest: Duration,
    waits: backon::ExponentialBackoff,
}

impl Default for Backoff {
    /// From 100 ms to 5 s.
    fn default() -> Self {
        Self::up_to(Duration::from_secs(5))
    }
}

impl Backoff {
    /// From 100 ms to `longest`.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            waits: waits(longest),
        }
    }

    /// The next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.waits = waits(self.longest);
    }

    /// Waits for the next while.
    pub(crate) async fn wait(&mut self) {
        let next = self.waits.next().unwrap_or(self.longest);
        tokio::time::sleep(next).await;
    }
}

fn waits(longest: Duration) -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}
