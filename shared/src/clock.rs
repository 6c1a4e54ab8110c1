//! What time it is. One place for it, so that a simulation can say what time it is.

use chrono::{DateTime, Utc};

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> DateTime<Utc> {
    #[cfg(feature = "simulation")]
    if let Some(now) = crate::simulation::now() {
        return now;
    }
    Utc::now()
}
