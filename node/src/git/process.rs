//! The parent's side: starts the child, listens, watches the clocks, kills it.

use super::error::{FetchError, plain};
use super::mirror;
use super::order::{FetchLimits, FetchOrder};
use super::wire::{Ask, LINE_LIMIT, Prepared, Progress, Say, Written};
use crate::log_sink::LogSink;
use crate::text::cut_front;
use futures::StreamExt;
use shared::git::certificate_environment;
use shared::source::{CommitId, GitScheme, GitUrl};
use shared::spec::DeploymentSpec;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

/// Fetches a repository and reads what it wants to be run. Nothing is written outside the mirror.
/// `found` is set as soon as the commit is here, also when it turns out that it cannot be used.
///
/// # Errors
/// [`FetchError`], after the child is gone.
pub async fn fetch(
    order: FetchOrder,
    found: &OnceLock<CommitId>,
    log: &LogSink,
    cancel: &CancellationToken,
) -> Result<Fetched, FetchError> {
    order
        .url
        .check_scheme(order.policy.file_allowed)
        .map_err(|error| FetchError::failed(error.to_string()))?;
    log.system(format!("fetching {}{}", order.url, aim(&order)));
    let (mirror_dir, url) = (order.mirror_dir.clone(), order.url.clone());
    let fetched = run(order, found, log, cancel).await;
    if let Err(error) = &fetched {
        give_back(error, &mirror_dir, &url).await;
    }
    fetched
}

/// Runs the child; a second time, with certificates, when it turns out to need them.
async fn run(
    order: FetchOrder,
    found: &OnceLock<CommitId>,
    log: &LogSink,
    cancel: &CancellationToken,
) -> Result<Fetched, FetchError> {
    let mut certificates = order.url.scheme() == GitScheme::Https;
    let limits = order.limits;
    let mut running = Running::start(&order, certificates, log.clone(), cancel.clone()).await?;
    let ask = Ask::Fetch(Box::new(order.clone()));
    loop {
        running.ask(&ask, limits.wall).await?;
        let heard = running
            .listen(Begun::OnceTheMirrorIsOurs, |said| match said {
                Say::Prepared(prepared) => Some(Some(*prepared)),
                Say::Found { commit } => {
                    // A second child is about what the first one found, or has found nothing yet.
                    let _ = found.set(commit);
                    None
                }
                Say::CertificatesNeeded => Some(None),
                _ => None,
            })
            .await?;
        if let Some(prepared) = heard {
            return Ok(Fetched::new(prepared, running));
        }
        if std::mem::replace(&mut certificates, true) {
            let refused = FetchError::node("fetching", "the child does not find its certificates");
            return Err(running.end(refused).await);
        }
        // Its lock on the mirror goes with it.
        running.kill().await;
        running = Running::start(&order, certificates, log.clone(), cancel.clone()).await?;
    }
}

/// Gives back the disk that a failed fetch used.
async fn give_back(error: &FetchError, mirror_dir: &Path, url: &GitUrl) {
    let given_back = match error {
        FetchError::TooLarge { .. } => mirror::remove(mirror_dir, url).await,
        _ => mirror::tidy_after_failure(mirror_dir, url).await,
    };
    if let Err(error) = given_back {
        tracing::warn!(%url, %error, "cannot tidy the mirror of a repository");
    }
}

fn aim(order: &FetchOrder) -> String {
    let git_ref = order.git_ref.as_ref().map(|git_ref| format!(" {git_ref}"));
    let commit = order
        .commit
        .as_ref()
        .map(|commit| format!(" at commit {commit}"));
    let subdir = order
        .subdir
        .as_ref()
        .map(|subdir| format!(", folder {subdir}"));
    [git_ref, commit, subdir].into_iter().flatten().collect()
}

/// A repository that was fetched and vetted. Its child process waits for
/// [`Fetched::write_context`] and keeps others from replacing the mirror: drop it soon.
#[derive(Debug)]
pub struct Fetched {
    /// The commit that the ref stands for.
    pub commit: CommitId,
    /// What to run.
    pub spec: DeploymentSpec,
    /// What was understood but probably not meant.
    pub warnings: Vec<String>,
    /// SHA-256 in hexadecimal over everything that the image is made of: the tree with its
    /// submodules, how it is built, the base image's name. Equal means that an image can be used
    /// again.
    pub content_hash: String,
    running: Running,
}

/// A build context, ready to be sent to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// A tar in GNU format that does not begin with a pax header.
    pub tar: PathBuf,
    /// The Dockerfile's path inside the tar.
    pub dockerfile: String,
    /// The size of the tar.
    pub bytes: u64,
    /// How many files, links and folders it holds.
    pub files: u64,
}

impl Fetched {
    fn new(prepared: Prepared, running: Running) -> Self {
        let Prepared {
            commit,
            spec,
            warnings,
            content_hash,
        } = prepared;
        Self {
            commit,
            spec,
            warnings,
            content_hash,
            running,
        }
    }

    /// Writes the build context as a tar to `to`. After an error nothing is left there.
    ///
    /// # Errors
    /// [`FetchError`], after the child is gone.
    pub async fn write_context(mut self, to: &Path) -> Result<Context, FetchError> {
        let result = self.ask_for_context(to).await;
        if result.is_err()
            && let Err(error) = tokio::fs::remove_file(to).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %to.display(), %error, "cannot remove a build context that is not whole");
        }
        result
    }

    async fn ask_for_context(&mut self, to: &Path) -> Result<Context, FetchError> {
        let limit = self.running.limits.wall;
        self.running
            .ask(&Ask::WriteContext { to: to.to_owned() }, limit)
            .await?;
        let written = self
            .running
            .listen(Begun::Now, |said| match said {
                Say::Written(written) => Some(written),
                _ => None,
            })
            .await?;
        let Written {
            dockerfile,
            bytes,
            files,
        } = written;
        Ok(Context {
            tar: to.to_owned(),
            dockerfile,
            bytes,
            files,
        })
    }
}

/// How many times the limit of a fetch may be spent on waiting for others that fetch from the same
/// repository, each of which has that limit for fetching and once more for its build context.
const WAITS: u32 = 4;

/// When the time of a step begins to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Now,
    /// Waiting for another fetch of the same repository does not count: nothing moves meanwhile.
    OnceTheMirrorIsOurs,
}

/// A child process and the conversation with it.
#[derive(Debug)]
struct Running {
    child: Child,
    orders: ChildStdin,
    answers: FramedRead<ChildStdout, LinesCodec>,
    complaints: JoinHandle<String>,
    limits: FetchLimits,
    log: LogSink,
    cancel: CancellationToken,
    // The child's home: empty but for the known hosts of SSH. Goes when the child goes.
    _home: tempfile::TempDir,
}

impl Running {
    async fn start(
        order: &FetchOrder,
        certificates: bool,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<Self, FetchError> {
        let home = mirror::scratch(&order.mirror_dir)
            .map_err(|error| FetchError::node("making a directory", error))?;
        let mut command = Command::new(&order.child.program);
        command
            .args(&order.child.args)
            .arg0("longshore-internal-fetch")
            .env_clear()
            .env("HOME", home.path())
            .env("LANG", "C.UTF-8")
            .envs(certificate_environment(certificates))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the node's terminal is the parent's to handle.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(agent) = &order.policy.ssh.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        let mut child = command
            .spawn()
            .map_err(|error| FetchError::node("starting the fetch process", error))?;
        let (Some(orders), Some(answers), Some(complaints)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(FetchError::node(
                "starting the fetch process",
                "it has no pipes",
            ));
        };
        Ok(Self {
            child,
            orders,
            answers: FramedRead::new(answers, LinesCodec::new_with_max_length(LINE_LIMIT)),
            complaints: tokio::spawn(read_tail(complaints)),
            limits: order.limits,
            log,
            cancel,
            _home: home,
        })
    }

    async fn ask(&mut self, ask: &Ask, limit: Duration) -> Result<(), FetchError> {
        let mut line = serde_json::to_vec(ask)
            .map_err(|error| FetchError::node("asking the fetch process", error))?;
        line.push(b'\n');
        match tokio::time::timeout(limit, self.orders.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            // It ended before it listened: how it ended says more than the broken pipe.
            Ok(Err(_)) => Err(self.died().await),
            Err(_) => Err(self
                .end(FetchError::Timeout {
                    seconds: limit.as_secs(),
                })
                .await),
        }
    }

    /// Handles what the child says until `pick` finds what it waits for.
    async fn listen<T>(
        &mut self,
        begun: Begun,
        pick: impl Fn(Say) -> Option<T>,
    ) -> Result<T, FetchError> {
        let (wall, stall) = match begun {
            Begun::Now => (self.limits.wall, self.limits.stall),
            Begun::OnceTheMirrorIsOurs => (
                self.limits.wall.saturating_mul(WAITS),
                self.limits.wall.saturating_mul(WAITS),
            ),
        };
        let mut wall = Instant::now() + wall;
        let mut stall = Instant::now() + stall;
        let mut teller = Teller::new(self.log.clone());
        loop {
            let line = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(self.end(FetchError::Cancelled).await),
                () = tokio::time::sleep_until(wall) => {
                    return Err(self.end(FetchError::Timeout { seconds: self.limits.wall.as_secs() }).await);
                }
                () = tokio::time::sleep_until(stall) => {
                    return Err(self.end(FetchError::Stalled { seconds: self.limits.stall.as_secs() }).await);
                }
                line = self.answers.next() => line,
            };
            let said = match line {
                Some(Ok(line)) => {
                    serde_json::from_str::<Say>(&line).map_err(|error| error.to_string())
                }
                Some(Err(error)) => Err(error.to_string()),
                None => return Err(self.died().await),
            };
            match said {
                Ok(Say::Started) => {
                    shared::fail_point!("node::action::in_fetch");
                    wall = Instant::now() + self.limits.wall;
                    stall = Instant::now() + self.limits.stall;
                }
                Ok(Say::Log { text }) => self.log.system(text),
                Ok(Say::Progress(progress)) => {
                    stall = Instant::now() + self.limits.stall;
                    teller.tell(progress);
                }
                Ok(Say::Failed(error)) => return Err(self.end(error).await),
                Ok(said) => {
                    if let Some(found) = pick(said) {
                        return Ok(found);
                    }
                }
                Err(error) => {
                    return Err(self
                        .end(FetchError::node("reading from the fetch process", error))
                        .await);
                }
            }
        }
    }

    /// Makes sure that the child is gone, and passes on why.
    async fn end(&mut self, why: FetchError) -> FetchError {
        self.kill().await;
        why
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "cannot kill a fetch process");
        }
    }

    /// How a child ended that should have answered.
    async fn died(&mut self) -> FetchError {
        let status = match tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return FetchError::node("waiting for the fetch process", error),
            Err(_) => {
                return self
                    .end(FetchError::node(
                        "reading from the fetch process",
                        "it closed its output",
                    ))
                    .await;
            }
        };
        let complaints = (&mut self.complaints).await.unwrap_or_default();
        death(status, &complaints)
    }
}

/// The signals by which the kernel and the allocator enforce the child's limits.
fn death(status: ExitStatus, complaints: &str) -> FetchError {
    // Numbers of x86, ARM and RISC-V alike.
    const ABRT: i32 = 6;
    const KILL: i32 = 9;
    const XCPU: i32 = 24;
    const XFSZ: i32 = 25;
    match status.signal() {
        Some(XCPU) => {
            FetchError::too_large("the repository took more processor time than a fetch may use")
        }
        Some(XFSZ) => {
            FetchError::too_large("the repository made a file larger than a fetch may write")
        }
        Some(ABRT | KILL) => {
            FetchError::too_large("the repository took more memory than a fetch may use")
        }
        _ => FetchError::node(
            "the fetch process ended early",
            format!("{status} {}", plain(complaints)),
        ),
    }
}

/// The end of what a child prints on standard error: there it says how it died.
async fn read_tail(mut from: tokio::process::ChildStderr) -> String {
    const TAIL: usize = 2048;
    let mut tail = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    cut_front(&String::from_utf8_lossy(&tail), TAIL)
}

/// Turns progress into log lines, at most two a second.
struct Teller {
    log: LogSink,
    next: Instant,
    last: Progress,
}

impl Teller {
    const PACE: Duration = Duration::from_millis(500);

    fn new(log: LogSink) -> Self {
        Self {
            log,
            next: Instant::now() + Self::PACE,
            last: Progress::default(),
        }
    }

    fn tell(&mut self, progress: Progress) {
        let moved = (progress.bytes, progress.objects) != (self.last.bytes, self.last.objects);
        if !moved || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + Self::PACE;
        self.last = progress;
        let Progress {
            bytes,
            objects,
            total_objects,
            ..
        } = progress;
        let kib = bytes.div_ceil(1024);
        self.log.system(match total_objects {
            0 => format!("received {kib} KiB"),
            _ => format!("received {kib} KiB, {objects} of {total_objects} objects"),
        });
    }
}
