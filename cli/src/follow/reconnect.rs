//! The pauses between two tries to connect again.

use std::time::Duration;
use tokio::time::sleep;

/// The first pause, doubled each time up to the longest.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between two tries to connect again, each up to twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    /// From the shortest.
    pub(crate) const fn new() -> Self {
        Self(FIRST)
    }

    /// The next is the shortest again: something came of the last try.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Waits. Several clients that lost one server shall not all come back at one instant.
    pub(crate) async fn wait(&mut self) {
        sleep(self.0.mul_f64(rand::random_range(0.5..1.0))).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}
