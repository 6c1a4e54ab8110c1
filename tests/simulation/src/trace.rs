//! What happened in a run: in words where somebody reads them, and always as one number, by which
//! two runs are known to be the same.

use crate::weather::Who;
use shared::simulation::Effect;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What happened, in order. Clones are the same trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    lines: Option<Arc<Mutex<Vec<String>>>>,
    digest: Arc<AtomicU64>,
    complaints: Arc<Mutex<Vec<String>>>,
    began: Instant,
}

impl Trace {
    /// A trace that begins now; it keeps nothing when nobody reads it.
    pub(crate) fn new(is_read: bool) -> Self {
        Self {
            lines: is_read.then(Arc::default),
            digest: Arc::default(),
            complaints: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Something happened. `what` is asked only when the trace is read.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let at = self.began.elapsed().as_secs_f64();
            let line = format!("{at:9.3}  {}", what());
            tracing::info!(target: "simulation", "{line}");
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }

    /// Something went wrong that never should, whatever comes after.
    pub(crate) fn complain(&self, what: String) {
        self.note(|| format!("WRONG: {what}"));
        self.complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    /// Everything that went wrong and never should.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A process is about to have an effect.
    pub(crate) fn effect(&self, who: Who, effect: Effect) {
        // The default hasher has fixed keys.
        let mut hasher = DefaultHasher::new();
        (who, effect, self.began.elapsed()).hash(&mut hasher);
        // Added up: those who wait for one `watch` are woken in an order that tokio draws by lot, so
        // that the order of effects within one moment is not the seed's.
        self.digest.fetch_add(hasher.finish(), Ordering::Relaxed);
    }

    /// A number that follows from every effect with its time.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    /// Everything that happened.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.as_ref().map_or_else(Vec::new, |lines| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}
