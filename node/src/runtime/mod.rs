//! What an action needs of the world: sources, images, containers, ports. In our own words, so
//! that actions are the same over Docker ([`local`]) and over a machine that exists in memory only
//! ([`simulated`]), where whole fleets are tried against crashes.

pub mod local;
pub mod simulated;

use crate::journal::Attempt;
use crate::log_sink::LogSink;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::id::{DeploymentId, StoreIncarnation};
use shared::name::{DeploymentName, ServiceName};
use shared::source::{CommitId, GitUrl, ImageDigest, ImageRef, Source};
use shared::spec::{DeploymentSpec, ServiceSpec};
use shared::status::FailureReason;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Why a step of an action did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It failed, and doing it again would fail again.
    #[error("{reason}: {detail}")]
    Failed {
        /// The reason, for the revision.
        reason: FailureReason,
        /// What a person should know.
        detail: String,
    },
    /// Whoever asked no longer wants it.
    #[error("interrupted")]
    Interrupted,
    /// The container engine, or the forwarder of ports beside it, does not answer: the step can be done
    /// again once it does.
    #[error("{0}")]
    EngineAway(String),
}

impl StepError {
    /// A failure with its reason.
    #[must_use]
    pub fn failed(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self::Failed {
            reason,
            detail: detail.into(),
        }
    }
}

/// Why the engine did not do what it was asked in passing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// It, or the forwarder of ports beside it, does not answer.
    #[error("{0}")]
    Away(String),
    /// A host port is bound by something else.
    #[error("{0}")]
    PortTaken(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

impl RuntimeError {
    /// The same for a step that starts containers.
    #[must_use]
    pub fn while_starting(self) -> StepError {
        match self {
            Self::Away(detail) => StepError::EngineAway(detail),
            Self::PortTaken(detail) => StepError::failed(FailureReason::PortUnavailable, detail),
            Self::Refused(detail) => StepError::failed(FailureReason::StartFailed, detail),
        }
    }
}

impl RuntimeError {
    /// The same for a step that leads ports to containers.
    #[must_use]
    pub fn while_switching(self) -> StepError {
        match self {
            Self::Away(detail) => StepError::EngineAway(detail),
            Self::PortTaken(detail) | Self::Refused(detail) => StepError::failed(
                FailureReason::PortUnavailable,
                format!("the ports cannot be led to the containers: {detail}"),
            ),
        }
    }
}

/// The container engine, when it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
}

/// How a deployment's ports are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// A forwarder on this host listens on the leased port and reaches the container's own address:
    /// a port stays the same over revisions, and a switch loses no request.
    Forwarded,
    /// The engine is on another machine: it publishes the leased port itself, so that two revisions
    /// side by side need two ports.
    Published,
}

/// What to get.
#[derive(Clone, Copy, Debug)]
pub struct FetchJob<'a> {
    /// Where from.
    pub source: &'a Source,
    /// This very commit.
    pub commit: Option<&'a CommitId>,
    /// Set to the commit as soon as it is here, also when it turns out that it cannot be used.
    pub found: &'a OnceLock<CommitId>,
    /// Where its lines go.
    pub log: &'a LogSink,
    /// Interrupts it.
    pub cancel: &'a CancellationToken,
}

/// What was got: a spec, and what it takes to build its images.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The commit, for Git.
    pub commit: Option<CommitId>,
    /// The digest, for an image.
    pub image_digest: Option<ImageDigest>,
    /// SHA-256 of everything that decides what runs.
    pub content_hash: String,
    /// What to run.
    pub spec: DeploymentSpec,
    /// What is worth saying of the configuration.
    pub warnings: Vec<String>,
}

/// A source that was got and can be built.
#[async_trait]
pub trait Tree: Send {
    /// What it is.
    fn resolved(&self) -> &Resolved;

    /// Builds the image `job.tag`, with its files in `job.directory` meanwhile.
    async fn build(self: Box<Self>, job: BuildJob<'_>) -> Result<ImageFacts, StepError>;
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct BuildJob<'a> {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The revision and attempt that build it.
    pub attempt: Attempt,
    /// The image's name.
    pub tag: &'a str,
    /// A directory of this action only.
    pub directory: &'a Path,
    /// Where its lines go.
    pub log: &'a LogSink,
    /// Interrupts it.
    pub cancel: &'a CancellationToken,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The engine's id of it.
    pub id: String,
    /// Whether it brings a HEALTHCHECK of its own.
    pub has_health_check: bool,
}

/// A container to create: one service of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct ContainerJob<'a> {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub deployment_name: &'a DeploymentName,
    /// The revision and attempt.
    pub attempt: Attempt,
    /// The store whose orchestrator ordered it.
    pub store: Option<StoreIncarnation>,
    /// The service.
    pub service: &'a ServiceSpec,
    /// The image, by the engine's id.
    pub image: &'a str,
    /// This address, when the container takes the place of one that had it.
    pub address: Option<Ipv4Addr>,
    /// Pairs of a host port and a container port, to be published by the engine.
    pub published: &'a [(u16, u16)],
}

/// A container that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The engine's id of it.
    pub id: String,
    /// Its address on the deployment's network.
    pub address: Option<Ipv4Addr>,
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The engine's id of it.
    pub id: String,
    /// The deployment that it says it is of.
    pub deployment_id: DeploymentId,
    /// The service that it says it is.
    pub service: ServiceName,
    /// The attempt that it says it is of.
    pub attempt: Attempt,
    /// The store whose orchestrator ordered it, as it says.
    pub store: Option<StoreIncarnation>,
}

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its process runs.
    pub running: bool,
    /// The engine is about to start it again.
    pub restarting: bool,
    /// How its last process ended.
    pub exit_code: i64,
    /// It was ended for using too much memory.
    pub out_of_memory: bool,
    /// How often the engine started it again.
    pub restarts: u32,
    /// What its own health check says.
    pub health: Option<EngineHealth>,
    /// The image that it was made from, by the engine's id.
    pub image: String,
    /// Its own address on the deployment's network, where that can be reached.
    pub address: Option<Ipv4Addr>,
}

/// What a health check that the engine runs says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineHealth {
    /// Not known yet.
    Starting,
    /// It passes.
    Healthy,
    /// It failed too often.
    Unhealthy {
        /// What its last run printed and how it ended, or nothing.
        last_run: String,
    },
}

/// Something happened to a container of ours, or to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A container's process ended.
    Died {
        /// The container.
        container: String,
        /// How.
        exit_code: i64,
    },
    /// A container's process started, or its health changed, or it was removed.
    Changed {
        /// The container.
        container: String,
    },
    /// Events were missed: everything has to be looked at.
    Missed,
}

/// Where a service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At its container's own address.
    Container {
        /// The address.
        address: Ipv4Addr,
        /// The port in the container.
        port: u16,
    },
    /// At a port that the engine publishes on its own machine.
    Published {
        /// The port on that machine.
        port: u16,
    },
}

impl Endpoint {
    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Container { port, .. } | Self::Published { port } => *port,
        }
    }
}

/// What is asked of a service from outside its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A connection.
    Tcp,
    /// An HTTP GET that answers with 2xx or 3xx.
    Http {
        /// The path.
        path: &'a str,
    },
}

/// A host port and where its connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRoute {
    /// The port on this host.
    pub port: u16,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The port in the container.
    pub container_port: u16,
}

/// The most lines of the past that are read of one container.
pub const LONGEST_TAIL: u32 = 10_000;

/// From where on a container's log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogsFrom {
    /// So many of the last lines, and what follows.
    Tail(u32),
    /// What was printed after this moment, by the engine's clock; of that at most the last
    /// [`LONGEST_TAIL`] lines, and what follows.
    After(DateTime<Utc>),
}

impl LogsFrom {
    /// All that is printed, for a container that had printed nothing.
    pub const START: Self = Self::After(DateTime::UNIX_EPOCH);
}

/// The world of a node.
///
/// Everything made through it is labelled with the deployment, service, revision, epoch and node,
/// and nothing else is ever touched. Every call ends within a bounded time.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Asks the engine whether it is there.
    async fn engine(&self) -> Result<EngineFacts, RuntimeError>;

    /// How ports are reached here.
    fn exposure(&self) -> Exposure;

    /// Sends what happens to containers of this node until it is stopped. Survives the engine's
    /// absence and says [`EngineEvent::Missed`] after each gap.
    async fn watch(&self, events: mpsc::Sender<EngineEvent>, stop: CancellationToken);

    /// Gets a source: its spec, and a tree that can be built.
    async fn fetch(&self, job: FetchJob<'_>) -> Result<Box<dyn Tree>, StepError>;

    /// Removes what is kept of a repository between fetches.
    async fn forget_repository(&self, url: &GitUrl) -> Result<(), RuntimeError>;

    /// An image that the engine has, by name or id.
    async fn image(&self, name: &str) -> Result<Option<ImageFacts>, RuntimeError>;

    /// Gets an image from its registry, unless the engine has it.
    async fn pull(
        &self,
        image: &ImageRef,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageFacts, StepError>;

    /// Removes an image by name; whether it is gone now. One in use stays.
    async fn image_remove(&self, name: &str) -> Result<bool, RuntimeError>;

    /// Makes what containers of a deployment need and what takes time, while something else takes
    /// time too: its network. What is there already is fine, and [`Runtime::create`] makes what is
    /// not there.
    async fn prepare(&self, _deployment: DeploymentId) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Takes back what [`Runtime::prepare`] made, where no container uses it: a pool has only so many
    /// networks.
    async fn unprepare(&self, _deployment: DeploymentId) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Creates a container, and before it the deployment's network and volumes.
    async fn create(&self, job: ContainerJob<'_>) -> Result<Created, StepError>;

    /// Starts a container. One that runs is fine.
    async fn start(&self, container: &str) -> Result<(), RuntimeError>;

    /// Stops a container: asks, and ends it when it has not ended by itself after `grace`. One that
    /// is stopped or not there is fine.
    async fn stop(&self, container: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Removes a container, ending it first. One that is not there is fine.
    async fn remove(&self, container: &str) -> Result<(), RuntimeError>;

    /// How a container is; none when there is no such.
    async fn inspect(&self, container: &str) -> Result<Option<ContainerState>, RuntimeError>;

    /// Every container of this node, or of one deployment on it, in whatever state.
    async fn list(
        &self,
        deployment: Option<DeploymentId>,
    ) -> Result<Vec<ContainerFacts>, RuntimeError>;

    /// The last lines that a container printed.
    async fn last_lines(&self, container: &str, count: usize) -> Result<Vec<String>, RuntimeError>;

    /// Writes what a container prints into `log` until its process ends or it is cancelled. Moves
    /// `from` past each line that was written, also where it fails: whoever follows again from there
    /// misses nothing and is told nothing twice.
    async fn follow(
        &self,
        container: &str,
        from: &mut LogsFrom,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError>;

    /// The TCP ports that the process of a container listens on, where that can be read.
    async fn listening(&self, container: &str) -> Vec<u16>;

    /// Asks a service once. The error says what happened instead.
    async fn probe(
        &self,
        endpoint: &Endpoint,
        probe: Probe<'_>,
        timeout: Duration,
    ) -> Result<(), String>;

    /// Whether a port of this host can be taken now.
    async fn port_is_free(&self, port: u16) -> bool;

    /// Makes these ports reach these containers, all in one step or not at all, and then `close`
    /// reach nothing. Connections that exist go on.
    async fn expose(&self, routes: &[PortRoute], close: &[u16]) -> Result<(), RuntimeError>;

    /// Where ports lead now. When any is `needed`, whoever keeps them open is started again first if
    /// it had ended.
    async fn exposed(&self, needed: bool) -> Result<Vec<PortRoute>, RuntimeError>;

    /// Waits until no connection goes to where a route leads, at most for `limit`.
    async fn drained(&self, route: &PortRoute, limit: Duration);

    /// Removes every container, network and image of a deployment on this node, and its volumes
    /// when asked. What is not there is fine.
    async fn purge(&self, deployment_id: DeploymentId, volumes: bool) -> Result<(), RuntimeError>;
}
