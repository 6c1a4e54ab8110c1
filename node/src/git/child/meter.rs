//! What is counted while a fetch runs, and what went wrong out of libgit2's sight.

use crate::git::wire::Progress;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing happens after libgit2 left a server that gave it nothing, before it is taken for
/// stuck.
const LEFT_FOR: Duration = Duration::from_secs(2);

/// Shared by the pipe, libgit2's callbacks and the reporting thread. The counters are independent
/// of each other, so relaxed order is enough.
pub(super) struct Meter {
    limit: u64,
    bytes: AtomicU64,
    objects: AtomicU64,
    total_objects: AtomicU64,
    work: AtomicU64,
    trouble: Mutex<Option<String>>,
    remote_words: Mutex<String>,
    tunnels: Mutex<Tunnels>,
}

/// The tunnels to TLS servers.
#[derive(Default)]
struct Tunnels {
    /// How many are open or being opened. The end of one may be seen when the next has begun.
    open: usize,
    /// When libgit2 left the last of them, and which server that led to.
    left: Option<(Instant, String)>,
}

impl Meter {
    /// A meter that allows `limit` received bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            bytes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            total_objects: AtomicU64::new(0),
            work: AtomicU64::new(0),
            trouble: Mutex::new(None),
            remote_words: Mutex::new(String::new()),
            tunnels: Mutex::default(),
        }
    }

    /// Counts received bytes; false when they are too many.
    pub(super) fn receive(&self, count: u64) -> bool {
        self.bytes.fetch_add(count, Relaxed);
        !self.is_over()
    }

    /// Whether more was received than is allowed.
    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Relaxed) > self.limit
    }

    /// The allowed bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// What libgit2 counted of the transfer under way.
    pub(super) fn objects(&self, received: u64, total: u64) {
        self.objects.store(received, Relaxed);
        self.total_objects.store(total, Relaxed);
    }

    /// One step of local work.
    pub(super) fn step(&self) {
        self.work.fetch_add(1, Relaxed);
    }

    /// What the counters show.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            bytes: self.bytes.load(Relaxed),
            objects: self.objects.load(Relaxed),
            total_objects: self.total_objects.load(Relaxed),
            work: self.work.load(Relaxed),
        }
    }

    /// Remembers why the pipe failed: libgit2 only sees a closed connection. The first reason stays.
    pub(super) fn trouble(&self, text: String) {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(text);
    }

    /// Why the pipe failed, if it did.
    pub(super) fn take_trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether the pipe failed.
    pub(super) fn has_trouble(&self) -> bool {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// A tunnel to a TLS server begins: libgit2 waits for it, so it is not stuck.
    pub(super) fn enter(&self) {
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.open += 1;
        tunnels.left = None;
    }

    /// A tunnel to `host` is over, or could not be opened.
    pub(super) fn leave(&self, host: &str) {
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        tunnels.open = tunnels.open.saturating_sub(1);
        if tunnels.open == 0 {
            tunnels.left = Some((Instant::now(), host.to_owned()));
        }
    }

    /// The TLS server that libgit2 left a while ago without having got anything, to do nothing since.
    ///
    /// A certificate that it does not trust makes it end the connection below TLS first and then say
    /// good-bye through it, for ever: in libgit2 1.9 with a proxy, which the pipe is.
    pub(super) fn stuck_at(&self) -> Option<String> {
        if self.objects.load(Relaxed) > 0 || self.work.load(Relaxed) > 0 {
            return None;
        }
        let tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, host) = tunnels.left.as_ref()?;
        (since.elapsed() > LEFT_FOR).then(|| host.clone())
    }

    /// What the server says beside the data; its last words often are the reason of a failure.
    pub(super) fn hear(&self, words: &[u8]) {
        const KEPT: usize = 1000;
        let mut heard = self
            .remote_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        heard.push_str(&String::from_utf8_lossy(words));
        let start = heard.ceil_char_boundary(heard.len().saturating_sub(KEPT));
        heard.drain(..start);
    }

    /// What the server said since the last call.
    pub(super) fn take_words(&self) -> String {
        std::mem::take(
            &mut *self
                .remote_words
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

#[cfg(test)]
impl Meter {
    /// As if the last tunnel had been left long ago.
    pub(super) fn age(&self) {
        if let Some((since, _)) = &mut self.tunnels.lock().unwrap().left {
            *since -= LEFT_FOR * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_stuck_at_only_when_no_tunnel_is_open() {
        let meter = Meter::new(1000);
        meter.enter();
        // The next one begins before the end of the first is seen.
        meter.enter();
        meter.leave("host");
        meter.age();
        assert_eq!(meter.stuck_at(), None);
        meter.leave("host");
        assert_eq!(meter.stuck_at(), None, "it may come back");
        meter.age();
        assert_eq!(meter.stuck_at().as_deref(), Some("host"));
        meter.enter();
        assert_eq!(meter.stuck_at(), None);
    }
}
