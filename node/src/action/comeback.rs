//! Beginning an action again because what it needs went away under it, and not for ever.

use crate::backoff::Backoff;
use crate::core::Core;
use std::time::Duration;

/// How often an action is begun again. An engine that is restarted costs one or two; one that goes away
/// each time is taken down by the action itself, and with it everybody else's containers.
const LIMIT: u32 = 5;

/// How often an action has been begun again.
#[derive(Debug)]
pub(super) struct Comebacks {
    count: u32,
    pause: Backoff,
}

impl Default for Comebacks {
    fn default() -> Self {
        Self {
            count: 0,
            pause: Backoff::up_to(Duration::from_secs(30)),
        }
    }
}

impl Comebacks {
    /// Waits, however long, until the engine answers; `false` at once when this has been often enough.
    pub(super) async fn wait(&mut self, core: &Core) -> bool {
        if self.count == LIMIT {
            return false;
        }
        self.count += 1;
        // The engine was found away before its supervisor may have noticed: give that one time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.pause.wait().await;
        core.engine_is_up().await;
        true
    }

    /// Why the action ends, after `detail` was the last.
    pub(super) fn exhausted(&self, detail: &str) -> String {
        format!("begun {} times, and each time {detail}", self.count + 1)
    }
}
