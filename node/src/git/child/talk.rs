//! What the child says to its parent.

use super::meter::Meter;
use crate::git::error::FetchError;
use crate::git::wire::Say;
use shared::name::shown;
use shared::source::CommitId;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// How often progress is told.
const PACE: Duration = Duration::from_millis(200);

/// Standard output, a JSON object a line.
#[derive(Clone)]
pub(super) struct Talk {
    out: Arc<Mutex<std::io::Stdout>>,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            out: Arc::new(Mutex::new(std::io::stdout())),
        }
    }

    /// Says one thing. When nobody listens any more there is nobody to tell: the process ends.
    pub(super) fn say(&self, say: &Say) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_vec(say)
            .map_err(std::io::Error::other)
            .and_then(|mut line| {
                line.push(b'\n');
                out.write_all(&line)?;
                out.flush()
            });
        if written.is_err() {
            std::process::exit(1);
        }
    }

    /// Asks to be started again with certificates. What was fetched so far is in the mirror.
    pub(super) fn need_certificates(&self) -> ! {
        self.say(&Say::CertificatesNeeded);
        std::process::exit(0)
    }

    /// libgit2 does not come back from a server that it does not trust.
    fn give_up(&self, host: &str) -> ! {
        self.say(&Say::Failed(FetchError::failed(format!(
            "`{}` was left after the TLS handshake: its certificate is not trusted here, has expired or is for \
             another name. Add the authority that signed it to this machine's certificates (or name its file in \
             SSL_CERT_FILE)",
            shown(host)
        ))));
        std::process::exit(1)
    }

    /// Which commit it is about, whatever is wrong with it.
    pub(super) fn found(&self, commit: &CommitId) {
        let commit = commit.clone();
        self.say(&Say::Found { commit });
    }

    /// A line for the log.
    pub(super) fn log(&self, text: impl Into<String>) {
        self.say(&Say::Log { text: text.into() });
    }

    /// Tells what the meter shows whenever it moved, until the returned value is dropped.
    pub(super) fn report(&self, meter: Arc<Meter>) -> Reporting {
        let talk = self.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut last = meter.progress();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(PACE) {
                let now = meter.progress();
                if now != last {
                    talk.say(&Say::Progress(now));
                    last = now;
                }
                if let Some(host) = meter.stuck_at() {
                    talk.give_up(&host);
                }
            }
        });
        Reporting {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

/// A thread that tells progress.
pub(super) struct Reporting {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its only failure would be a panic, which has already been printed.
            let _ = thread.join();
        }
    }
}
