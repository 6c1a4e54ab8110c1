//! Chance of a run. Each part of the world has dice of its own, so that one more throw here changes
//! nothing there.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Dice that follow from a seed and a name. Clones throw the same dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a: the same on every machine and release.
        let mixed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(mixed))))
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True that often, in thousandths.
    pub(crate) fn happens(&self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng().random_range(0..1000) < thousandths
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.rng().random_range(low..=high)
    }

    /// A place in a list that is not empty.
    pub(crate) fn place(&self, length: usize) -> usize {
        self.rng().random_range(0..length)
    }

    /// A time in milliseconds.
    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}
