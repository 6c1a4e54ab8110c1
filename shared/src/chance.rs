//! Chance, where it decides something. One place for it, so that a simulation can repeat it.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator of its own for whoever asks, seeded by the operating system.
#[must_use]
pub fn rng() -> StdRng {
    #[cfg(feature = "simulation")]
    if let Some(rng) = crate::simulation::rng() {
        return rng;
    }
    StdRng::from_rng(&mut rand::rng())
}
