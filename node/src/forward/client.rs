//! The node's side: finds the forwarder or starts one, and tells it what to do.

use super::protocol::{ForwarderState, LINE_LIMIT, Op, PROTOCOL, Reply, Request, Route};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// How long the forwarder may take to answer, beside what it is asked to wait.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a new forwarder may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(15);
/// The time between two looks at whether it does.
const START_POLL: Duration = Duration::from_millis(5);
/// A log of an earlier forwarder beyond this size is dropped.
const LOG_LIMIT: u64 = 1024 * 1024;

/// How a forwarder is started and where it keeps its things.
#[derive(Clone, Debug)]
pub struct ForwarderSettings {
    /// The binary, mostly [`std::env::current_exe`].
    pub program: PathBuf,
    /// What stands on its command line before `--control` and `--table`, mostly `forward`.
    pub arguments: Vec<OsString>,
    /// Where its socket, table and log are; only its user can look into it.
    pub state_dir: PathBuf,
}

/// Why the forwarder did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A port is bound by something else; nothing was changed.
    #[error("port {port} is taken: {detail}")]
    PortTaken {
        /// The port.
        port: u16,
        /// The system's words.
        detail: String,
    },
    /// It said no; nothing was changed.
    #[error("the port forwarder refused: {detail}")]
    Refused {
        /// Why.
        detail: String,
    },
    /// It could not be started.
    #[error("the port forwarder did not start: {detail}")]
    NotStarted {
        /// What happened, with the end of its log.
        detail: String,
    },
    /// It could not be talked to.
    #[error("talking to the port forwarder")]
    Io(#[from] io::Error),
}

/// The port forwarder of a node, which is started when it is not there. Clones are one handle.
#[derive(Clone, Debug)]
pub struct Forwarder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ForwarderSettings,
    /// Held while a forwarder is looked for and started.
    starting: Mutex<()>,
}

impl Forwarder {
    /// A handle; nothing is started before the first call.
    #[must_use]
    pub fn new(settings: ForwarderSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                starting: Mutex::new(()),
            }),
        }
    }

    /// Makes sure that it runs, with the table that it had, and returns what it is doing. To be
    /// called from time to time, since nobody else starts it again.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn ensure(&self) -> Result<ForwarderState, ForwardError> {
        self.state().await
    }

    /// What it is doing.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn state(&self) -> Result<ForwarderState, ForwardError> {
        match self.ask(Op::List, Duration::ZERO).await? {
            Reply::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// What it is doing; none when it does not run, and it is not started then.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn state_if_running(&self) -> Result<Option<ForwarderState>, ForwardError> {
        let Some(stream) = self.connect().await else {
            return Ok(None);
        };
        match talk(stream, Op::List, Duration::ZERO).await {
            Ok(Reply::State(state)) => Ok(Some(state)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds or changes routes: all, or none. When this returns they are in force and on disk.
    ///
    /// # Errors
    /// [`ForwardError::PortTaken`] names the first port that cannot be bound.
    pub async fn put(&self, routes: &[Route]) -> Result<(), ForwardError> {
        self.done(Op::Put {
            routes: routes.to_vec(),
        })
        .await
    }

    /// Removes routes; ports without one are fine. Open connections go on.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn remove(&self, ports: &[u16]) -> Result<(), ForwardError> {
        self.done(Op::Remove {
            ports: ports.to_vec(),
        })
        .await
    }

    /// Makes these the only routes.
    ///
    /// # Errors
    /// [`ForwardError::PortTaken`] names the first port that cannot be bound.
    pub async fn set(&self, routes: &[Route]) -> Result<(), ForwardError> {
        self.done(Op::Set {
            routes: routes.to_vec(),
        })
        .await
    }

    /// Waits until no connection goes to a target, at most for `limit`. Returns how many are left.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn drained(&self, target: SocketAddr, limit: Duration) -> Result<u32, ForwardError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match self.ask(Op::Drained { target, limit_ms }, limit).await? {
            Reply::Connections { count } => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends it, and with it every connection. One that does not run is not started.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn shutdown(&self) -> Result<(), ForwardError> {
        let Some(stream) = self.connect().await else {
            return Ok(());
        };
        talk(stream, Op::Shutdown, Duration::ZERO).await?;
        Ok(())
    }

    async fn done(&self, op: Op) -> Result<(), ForwardError> {
        match self.ask(op, Duration::ZERO).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks once; when nobody is there, starts a forwarder and asks it. Every request may be made
    /// twice without harm.
    async fn ask(&self, op: Op, wait: Duration) -> Result<Reply, ForwardError> {
        if let Some(stream) = self.connect().await {
            match talk(stream, op.clone(), wait).await {
                Ok(Reply::OtherVersion { .. }) => self.shutdown().await?,
                Ok(reply) => return refusal(reply),
                // It ended while we were talking.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let stream = self.start().await?;
        refusal(talk(stream, op, wait).await?)
    }

    /// A connection to a forwarder, unless none listens.
    async fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.control()).await.ok()
    }

    async fn start(&self) -> Result<UnixStream, ForwardError> {
        let _starting = self.inner.starting.lock().await;
        // Somebody may have been quicker.
        if let Some(stream) = self.connect().await {
            return Ok(stream);
        }
        let mut child = self.spawn()?;
        let ready = async {
            loop {
                if let Some(stream) = self.connect().await {
                    return Ok(stream);
                }
                if let Some(status) = child.try_wait()? {
                    return Err(self.not_started(&format!("it ended with {status}")));
                }
                tokio::time::sleep(START_POLL).await;
            }
        };
        let ready = tokio::time::timeout(START_LIMIT, ready).await;
        ready.unwrap_or_else(|_| Err(self.not_started("it does not answer")))
    }

    /// A process that does not end with this one: it takes itself out of our session first of all,
    /// and has none of our descriptors.
    fn spawn(&self) -> Result<Child, ForwardError> {
        let settings = &self.inner.settings;
        let log_path = self.log();
        let too_long = std::fs::metadata(&log_path).is_ok_and(|log| log.len() > LOG_LIMIT);
        if too_long {
            std::fs::remove_file(&log_path)?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log_path)?;
        let mut command = Command::new(&settings.program);
        command
            // It outlives us, and needs none of what we were given, such as tokens.
            .env_clear()
            .args(&settings.arguments)
            .arg("--control")
            .arg(self.control())
            .arg("--table")
            .arg(settings.state_dir.join("forward.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // When it ends before us, the runtime collects it.
        command
            .spawn()
            .map_err(|error| self.not_started(&error.to_string()))
    }

    fn not_started(&self, what: &str) -> ForwardError {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let tail = log.len().saturating_sub(1024);
        let said = crate::text::clean_lines(&String::from_utf8_lossy(&log[tail..]));
        ForwardError::NotStarted {
            detail: format!("{what}: {said}"),
        }
    }

    fn control(&self) -> PathBuf {
        self.inner.settings.state_dir.join("forward.sock")
    }

    fn log(&self) -> PathBuf {
        self.inner.settings.state_dir.join("forward.log")
    }
}

async fn talk(stream: UnixStream, op: Op, wait: Duration) -> io::Result<Reply> {
    let talking = async {
        let mut stream = BufReader::new(stream);
        let mut line = serde_json::to_vec(&Request { v: PROTOCOL, op })?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut answer)
            .await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&answer)?)
    };
    tokio::time::timeout(ANSWER_LIMIT + wait, talking)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn refusal(reply: Reply) -> Result<Reply, ForwardError> {
    match reply {
        Reply::PortTaken { port, detail } => Err(ForwardError::PortTaken { port, detail }),
        Reply::Refused { detail } => Err(ForwardError::Refused { detail }),
        Reply::OtherVersion { v } => Err(ForwardError::Refused {
            detail: format!("it speaks version {v}"),
        }),
        reply @ (Reply::Done | Reply::State(_) | Reply::Connections { .. }) => Ok(reply),
    }
}

fn unexpected(reply: &Reply) -> ForwardError {
    ForwardError::Refused {
        detail: format!("an answer to another question: {reply:?}"),
    }
}
