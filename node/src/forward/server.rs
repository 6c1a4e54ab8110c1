//! The forwarder's own process.

use super::ports::Ports;
use super::protocol::{AnyRequest, LINE_LIMIT, Op, PROTOCOL, Reply, Request, Route};
use super::table;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How long a forwarder waits for the one that it replaces to be gone.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How long a forwarder stays without a port and without a word from its node: one of a node that is
/// there is asked more often.
pub const IDLE: Duration = Duration::from_secs(300);

/// The time between two tries to accept a conversation.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is written down that conversations fail.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// File descriptors are asked for up to this many.
const DESCRIPTORS: u64 = 65_536;

/// What the forwarder's process is told on its command line.
#[derive(Clone, Debug)]
pub struct ForwardArgs {
    /// The control socket.
    pub control: PathBuf,
    /// The table on disk.
    pub table: PathBuf,
    /// How long it stays without a port and without a word from its node, which starts it again when it
    /// is needed.
    pub idle: Duration,
}

/// Runs the forwarder until it is told to end, by its control socket or SIGTERM, or has nothing to do
/// any more.
#[must_use]
pub fn main(args: &ForwardArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longshore forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ForwardArgs) -> io::Result<()> {
    // Out of the terminal's session, so that neither Ctrl-C nor its end reach this process. One
    // that leads a session already is refused, and needs nothing.
    let _ = rustix::process::setsid();
    // Whatever is made from here on is for this user only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let descriptors = rlimit::increase_nofile_limit(DESCRIPTORS)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_millis(100))
        .build()?;
    runtime.block_on(serve(args, descriptors))
}

async fn serve(args: &ForwardArgs, descriptors: u64) -> io::Result<()> {
    let _only_one = lock(&args.table).await?;
    // Two descriptors a connection, and a quarter left for ports and control.
    let connections = usize::try_from(descriptors / 8 * 3).unwrap_or(usize::MAX);
    let server = Arc::new(Server {
        ports: Mutex::new(Ports::new(connections)),
        table: args.table.clone(),
        stop: CancellationToken::new(),
        heard: AtomicBool::new(true),
    });
    server.restore().await;
    remove_if_there(&args.control)?;
    let control = UnixListener::bind(&args.control)?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Taken so that it does not end us.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut idle = tokio::time::interval(args.idle);
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = idle.tick() => if server.is_idle().await { break },
            accepted = control.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(server.clone().talk(stream))),
                // Mostly no descriptor is free for the moment: no reason to end every connection.
                Err(error) => {
                    if said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
                        eprintln!("longshore forward: a conversation could not begin: {error}");
                        said = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = server.stop.cancelled() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => {}
        }
    }
    remove_if_there(&args.control)
}

/// Held until the process ends, however it does.
async fn lock(table: &Path) -> io::Result<File> {
    let path = table.with_extension("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    let wait = async {
        while file.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let locked = tokio::time::timeout(LOCK_WAIT, wait).await;
    locked.map_err(|_| io::Error::other(format!("another forwarder holds {}", path.display())))?;
    Ok(file)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[derive(Debug)]
struct Server {
    ports: Mutex<Ports>,
    table: PathBuf,
    stop: CancellationToken,
    /// Whether its node has said something since that was last looked at.
    heard: AtomicBool,
}

impl Server {
    /// Nothing to serve, and nothing was said since this was last asked.
    async fn is_idle(&self) -> bool {
        let was_silent = !self.heard.swap(false, Ordering::Relaxed);
        was_silent && self.ports.lock().await.routes().next().is_none()
    }

    /// Puts the table on disk in force. A port that something else took meanwhile is kept, not
    /// bound; a table that cannot be read is left where it is until the node puts a new one.
    async fn restore(&self) {
        let routes = match table::load(&self.table) {
            Ok(routes) => routes,
            Err(error) => {
                eprintln!(
                    "longshore forward: starting without routes: {}: {error}",
                    self.table.display()
                );
                return;
            }
        };
        let mut ports = self.ports.lock().await;
        for route in routes {
            let bound = match ports.bind(&[route]).await {
                Ok(bound) => bound,
                Err(taken) => {
                    eprintln!(
                        "longshore forward: port {} is not served: {}",
                        taken.port, taken.error
                    );
                    HashMap::new()
                }
            };
            ports.put(&[route], bound);
        }
    }

    async fn talk(self: Arc<Self>, stream: UnixStream) {
        if let Err(error) = self.answer_all(stream).await {
            eprintln!("longshore forward: a conversation broke: {error}");
        }
    }

    async fn answer_all(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            (&mut read)
                .take(LINE_LIMIT)
                .read_until(b'\n', &mut line)
                .await?;
            if line.is_empty() {
                return Ok(());
            }
            self.heard.store(true, Ordering::Relaxed);
            let (reply, last) = self.answer(&line).await;
            let mut answer = serde_json::to_vec(&reply)?;
            answer.push(b'\n');
            write.write_all(&answer).await?;
            if last {
                self.stop.cancel();
                return Ok(());
            }
        }
    }

    /// The answer to a line, and whether it is the process's last.
    async fn answer(&self, line: &[u8]) -> (Reply, bool) {
        let refused = |error: serde_json::Error| Reply::Refused {
            detail: error.to_string(),
        };
        match serde_json::from_slice::<AnyRequest>(line) {
            Ok(any) if any.op == "shutdown" => return (Reply::Done, true),
            Ok(any) if any.v != PROTOCOL => return (Reply::OtherVersion { v: PROTOCOL }, false),
            Ok(_) => {}
            Err(error) => return (refused(error), false),
        }
        let reply = match serde_json::from_slice::<Request>(line) {
            Ok(request) => self.apply(request.op).await,
            Err(error) => refused(error),
        };
        (reply, false)
    }

    async fn apply(&self, op: Op) -> Reply {
        match op {
            Op::Put { routes } => self.change(&routes, &[]).await,
            Op::Remove { ports } => self.change(&[], &ports).await,
            Op::Set { routes } => {
                let kept = |port: u16| routes.iter().any(|route| route.port == port);
                let current: Vec<u16> = self
                    .ports
                    .lock()
                    .await
                    .routes()
                    .map(|route| route.port)
                    .collect();
                let gone: Vec<u16> = current.into_iter().filter(|port| !kept(*port)).collect();
                self.change(&routes, &gone).await
            }
            Op::List => Reply::State(self.ports.lock().await.state()),
            Op::Drained { target, limit_ms } => {
                let drained = self
                    .ports
                    .lock()
                    .await
                    .drained(target, Duration::from_millis(limit_ms));
                Reply::Connections {
                    count: drained.await,
                }
            }
            Op::Shutdown => Reply::Done,
        }
    }

    /// Binds, writes the table, and only then switches: after an error nothing has changed.
    async fn change(&self, put: &[Route], gone: &[u16]) -> Reply {
        let mut ports = self.ports.lock().await;
        let bound = match ports.bind(put).await {
            Ok(bound) => bound,
            Err(taken) => {
                return Reply::PortTaken {
                    port: taken.port,
                    detail: taken.error.to_string(),
                };
            }
        };
        let changed =
            |port: u16| gone.contains(&port) || put.iter().any(|route| route.port == port);
        let mut table: Vec<Route> = ports
            .routes()
            .filter(|route| !changed(route.port))
            .collect();
        table.extend_from_slice(put);
        table.sort_unstable();
        if let Err(error) = self.save(table).await {
            return Reply::Refused {
                detail: format!("{}: {error}", self.table.display()),
            };
        }
        ports.put(put, bound);
        ports.remove(gone);
        Reply::Done
    }

    /// Beside the connections: a disk may take its time.
    async fn save(&self, routes: Vec<Route>) -> io::Result<()> {
        let path = self.table.clone();
        let saving = tokio::task::spawn_blocking(move || table::save(&path, routes));
        saving.await.map_err(io::Error::other)?
    }
}
