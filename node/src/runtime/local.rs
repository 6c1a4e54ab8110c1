//! The world as it is: Git, the Docker Engine and the port forwarder of this machine.

use super::{
    BuildJob, ContainerFacts, ContainerJob, ContainerState, Created, Endpoint, EngineEvent,
    EngineFacts, EngineHealth, Exposure, FetchJob, ImageFacts, PortRoute, Probe, Resolved, Runtime,
    RuntimeError, StepError, Tree,
};
use crate::config::{BuildLimits, NodeSettings};
use crate::docker::{
    self, BuildError, BuildOrder, ContainerChange, ContainerOrder, Engine, EngineError,
    HealthCommand, LogQuery, NetworkOrder, NetworkPlace, Owner, PublishedPort, VolumeMount,
    container_name, volume_name,
};
use crate::error::StartError;
use crate::forward::{Forwarder, ForwarderSettings, Route};
use crate::git::{self, ChildProgram, FetchError, FetchOrder};
use crate::journal::Attempt;
use crate::log_sink::LogSink;
use crate::probe::{Reach, probe_http, probe_tcp};
use crate::state_dir::StateDir;
use async_trait::async_trait;
use futures::StreamExt as _;
use ipnet::Ipv4Net;
use shared::id::DeploymentId;
use shared::name::NodeName;
use shared::source::{GitSource, GitUrl, ImageRef, ImageSource, Source};
use shared::spec::{
    About, DeploymentSpec, HealthCheck, HealthSpec, ImageSpec, Resources, ServiceSpec,
};
use shared::status::{FailureReason, Method};
use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// How long the pull of an image may take.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The world as it is.
pub struct LocalRuntime {
    node: NodeName,
    engine: Engine,
    forwarder: Forwarder,
    /// Whether containers' own addresses can be reached from here, as the engine said last.
    reachable: AtomicBool,
    /// Where published ports are reached.
    published_at: IpAddr,
    network_pool: Ipv4Net,
    stop_grace: Duration,
    build_limits: BuildLimits,
    fetching: Fetching,
    /// One for each deployment: its addresses are chosen one after the other.
    choosing: StdMutex<HashMap<DeploymentId, Arc<Mutex<()>>>>,
}

/// What every fetch has in common.
struct Fetching {
    mirrors: PathBuf,
    limits: git::FetchLimits,
    policy: git::FetchPolicy,
    builtin: git::BuiltinImages,
    child: ChildProgram,
}

impl LocalRuntime {
    /// The world as settings describe it. Nothing is reached for yet.
    ///
    /// # Errors
    /// [`StartError`] for settings that cannot be used.
    pub fn new(settings: &NodeSettings, state_dir: &StateDir) -> Result<Self, StartError> {
        let engine = Engine::new(settings.docker_host.clone())
            .map_err(|error| StartError::Engine(error.to_string()))?;
        let (pool, prefix) = settings.network_pool;
        let network_pool = Ipv4Net::new(pool, prefix).map_err(|error| StartError::Settings {
            mistakes: vec![format!("the network pool: {error}")],
        })?;
        git::mirror::sweep(&state_dir.mirrors()).map_err(|source| StartError::StateDir {
            path: state_dir.mirrors(),
            what: "removing what an earlier process left",
            source,
        })?;
        let forwarder = Forwarder::new(ForwarderSettings {
            program: settings.child_executable.clone(),
            arguments: vec![OsString::from("forward")],
            state_dir: state_dir.path().to_owned(),
        });
        let child = ChildProgram {
            program: settings.child_executable.clone(),
            args: vec![OsString::from("internal-fetch")],
        };
        Ok(Self {
            node: settings.name.clone(),
            reachable: AtomicBool::new(engine.is_local()),
            engine,
            forwarder,
            published_at: settings
                .advertise
                .parse()
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            network_pool,
            stop_grace: settings.stop_grace,
            build_limits: settings.build_limits,
            fetching: Fetching {
                mirrors: state_dir.mirrors(),
                limits: settings.fetch_limits,
                policy: settings.fetch_policy.clone(),
                builtin: settings.builtin_images.clone(),
                child,
            },
            choosing: StdMutex::default(),
        })
    }

    async fn fetch_git(
        &self,
        git: &GitSource,
        job: FetchJob<'_>,
    ) -> Result<Box<dyn Tree>, StepError> {
        let order = FetchOrder {
            url: git.url.clone(),
            git_ref: git.git_ref.clone(),
            commit: job.commit.cloned(),
            subdir: git.subdir.clone(),
            mirror_dir: self.fetching.mirrors.clone(),
            limits: self.fetching.limits,
            policy: self.fetching.policy.clone(),
            builtin: self.fetching.builtin.clone(),
            child: self.fetching.child.clone(),
        };
        let fetched = Box::pin(git::fetch(order, job.log, job.cancel))
            .await
            .map_err(fetch_failed)?;
        let resolved = Resolved {
            commit: Some(fetched.commit.clone()),
            image_digest: None,
            content_hash: fetched.content_hash.clone(),
            spec: fetched.spec.clone(),
            warnings: fetched.warnings.clone(),
        };
        Ok(Box::new(GitTree {
            resolved,
            fetched,
            engine: self.engine.clone(),
            node: self.node.clone(),
            limits: self.build_limits,
        }))
    }

    async fn fetch_image(
        &self,
        source: &ImageSource,
        job: FetchJob<'_>,
    ) -> Result<Box<dyn Tree>, StepError> {
        let image = self.pulled(&source.image, job.log, job.cancel).await?;
        let ports = source
            .port
            .map_or_else(|| image.exposed.clone(), |port| vec![port]);
        let resolved = Resolved {
            commit: None,
            image_digest: Some(
                image
                    .digests
                    .first()
                    .cloned()
                    .unwrap_or_else(|| image.id.clone()),
            ),
            content_hash: image.id.trim_start_matches("sha256:").to_owned(),
            spec: spec_of_image(&source.image, ports),
            warnings: Vec::new(),
        };
        Ok(Box::new(ImageTree { resolved }))
    }

    async fn pulled(
        &self,
        image: &ImageRef,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<docker::ImageInfo, StepError> {
        let pulled = self.engine.image_pull(image, PULL_LIMIT, log, cancel).await;
        let error = match pulled {
            Ok(image) => return Ok(image),
            Err(_) if cancel.is_cancelled() => return Err(StepError::Interrupted),
            Err(error @ EngineError::Unavailable { .. }) => {
                return Err(StepError::EngineAway(error.to_string()));
            }
            Err(error) => error,
        };
        // A registry that cannot be reached is no obstacle to what is here already.
        match self.engine.image(image.as_str()).await {
            Ok(Some(known)) => {
                log.system(format!("{error}; using the image that the engine has"));
                Ok(known)
            }
            Ok(None) => Err(StepError::failed(
                FailureReason::FetchFailed,
                error.to_string(),
            )),
            Err(error) => Err(RuntimeError::from(error).while_starting()),
        }
    }

    fn choosing(&self, deployment_id: DeploymentId) -> Arc<Mutex<()>> {
        let mut choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        choosing.retain(|_, lock| Arc::strong_count(lock) > 1);
        choosing.entry(deployment_id).or_default().clone()
    }

    async fn place(
        &self,
        job: &ContainerJob<'_>,
        network: &docker::Network,
    ) -> Result<Option<Ipv4Addr>, EngineError> {
        if self.exposure() == Exposure::Published {
            return Ok(None);
        }
        match job
            .address
            .filter(|address| network.subnet.contains(address))
        {
            Some(address) => Ok(Some(address)),
            None => self.engine.free_address(network).await.map(Some),
        }
    }

    fn order(
        &self,
        job: &ContainerJob<'_>,
        network: String,
        address: Option<Ipv4Addr>,
    ) -> ContainerOrder {
        let owner = Owner {
            deployment: job.deployment_id,
            service: job.service.name.clone(),
            revision: job.attempt.revision,
            epoch: job.attempt.epoch,
            node: self.node.clone(),
        };
        let volumes = job.service.volumes.iter().map(|volume| VolumeMount {
            volume: volume_name(job.deployment_id, &volume.name),
            path: volume.path.clone(),
            read_only: volume.read_only,
        });
        ContainerOrder {
            name: container_name(job.deployment_name, &owner),
            owner,
            image: job.image.to_owned(),
            command: job.service.command.clone(),
            env: job.service.env.clone(),
            labels: std::collections::BTreeMap::new(),
            network: NetworkPlace {
                network,
                alias: job.service.name.clone(),
                address,
            },
            volumes: volumes.collect(),
            resources: job.service.resources.clone(),
            health: health_command(&job.service.health),
            ports: job
                .published
                .iter()
                .map(|(host, container)| PublishedPort {
                    host: *host,
                    container: *container,
                })
                .collect(),
            stop_grace: self.stop_grace,
        }
    }
}

fn health_command(health: &HealthSpec) -> Option<HealthCommand> {
    match &health.check {
        HealthCheck::Command { command } => Some(HealthCommand {
            command: command.clone(),
            interval: health.interval,
            timeout: health.timeout,
            retries: health.retries,
            start_period: health.start_period,
        }),
        HealthCheck::Default | HealthCheck::Tcp | HealthCheck::Http { .. } => None,
    }
}

fn spec_of_image(image: &ImageRef, ports: Vec<u16>) -> DeploymentSpec {
    let service = ServiceSpec {
        name: shared::name::ServiceName::app(),
        image: ImageSpec::Pull {
            image: image.clone(),
        },
        command: None,
        env: std::collections::BTreeMap::new(),
        ports,
        volumes: Vec::new(),
        health: HealthSpec::default(),
        resources: Resources::default(),
        domain: None,
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: About::default(),
    }
}

fn fetch_failed(error: FetchError) -> StepError {
    match error {
        FetchError::Cancelled => StepError::Interrupted,
        other => StepError::failed(other.reason(), other.to_string()),
    }
}

impl From<EngineError> for RuntimeError {
    fn from(error: EngineError) -> Self {
        if error.is_transient() {
            Self::Away(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

fn image_facts(image: docker::ImageInfo) -> ImageFacts {
    ImageFacts {
        id: image.id,
        has_health_check: image.healthcheck,
    }
}

/// A repository that was fetched.
struct GitTree {
    resolved: Resolved,
    fetched: git::Fetched,
    engine: Engine,
    node: NodeName,
    limits: BuildLimits,
}

#[async_trait]
impl Tree for GitTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, job: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        let context = self
            .fetched
            .write_context(&job.directory.join("context.tar"))
            .await
            .map_err(fetch_failed)?;
        let order = BuildOrder {
            deployment: job.deployment_id,
            node: self.node,
            context_tar: context.tar,
            dockerfile: context.dockerfile,
            tag: job.tag.to_owned(),
            time_limit: self.limits.time,
            memory_limit: self.limits.memory,
        };
        match Box::pin(self.engine.build(&order, job.log, job.cancel)).await {
            Ok(image) => Ok(image_facts(image)),
            Err(BuildError::Cancelled) => Err(StepError::Interrupted),
            Err(BuildError::Failed { detail }) => {
                Err(StepError::failed(FailureReason::BuildFailed, detail))
            }
            Err(error @ BuildError::Timeout { .. }) => Err(StepError::failed(
                FailureReason::BuildTimeout,
                error.to_string(),
            )),
            Err(BuildError::Engine(error)) if error.is_transient() => {
                Err(StepError::EngineAway(error.to_string()))
            }
            Err(BuildError::Engine(error)) => Err(StepError::failed(
                FailureReason::BuildFailed,
                error.to_string(),
            )),
        }
    }
}

/// An image that was pulled: there is nothing to build.
struct ImageTree {
    resolved: Resolved,
}

#[async_trait]
impl Tree for ImageTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, _: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        Err(StepError::failed(
            FailureReason::BuildFailed,
            "an image has nothing to build",
        ))
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        let info = self.engine.info().await?;
        self.reachable
            .store(info.containers_reachable, Ordering::Relaxed);
        Ok(EngineFacts {
            version: info.version,
        })
    }

    fn exposure(&self) -> Exposure {
        if self.reachable.load(Ordering::Relaxed) {
            Exposure::Forwarded
        } else {
            Exposure::Published
        }
    }

    async fn watch(&self, events: mpsc::Sender<EngineEvent>, stop: CancellationToken) {
        let mut seen = std::pin::pin!(self.engine.events(&self.node));
        while let Some(Some(event)) = stop.run_until_cancelled(seen.next()).await {
            let event = match event {
                docker::EngineEvent::Resync => EngineEvent::Missed,
                // Its supervisor says so, and the next event is that something was missed.
                docker::EngineEvent::Lost(_) => continue,
                docker::EngineEvent::Container(event) => match event.change {
                    ContainerChange::Died { exit_code } => EngineEvent::Died {
                        container: event.id,
                        exit_code,
                    },
                    _ => EngineEvent::Changed {
                        container: event.id,
                    },
                },
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn fetch(&self, job: FetchJob<'_>) -> Result<Box<dyn Tree>, StepError> {
        match job.source {
            Source::GitApp(git) => self.fetch_git(git, job).await,
            Source::Image(image) => self.fetch_image(image, job).await,
        }
    }

    async fn forget_repository(&self, url: &GitUrl) -> Result<(), RuntimeError> {
        let refused =
            |error: std::io::Error| RuntimeError::Refused(format!("removing a mirror: {error}"));
        git::mirror::remove(&self.fetching.mirrors, url)
            .await
            .map_err(refused)
    }

    async fn image(&self, name: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        Ok(self.engine.image(name).await?.map(image_facts))
    }

    async fn pull(
        &self,
        image: &ImageRef,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageFacts, StepError> {
        // The fetch of an image source has pulled it a moment ago.
        if let Ok(Some(known)) = self.engine.image(image.as_str()).await {
            return Ok(image_facts(known));
        }
        self.pulled(image, log, cancel).await.map(image_facts)
    }

    async fn image_remove(&self, name: &str) -> Result<(), RuntimeError> {
        match self.engine.image_remove(name).await {
            Ok(_) | Err(EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, job: ContainerJob<'_>) -> Result<Created, StepError> {
        let order = NetworkOrder {
            deployment: job.deployment_id,
            node: self.node.clone(),
            pool: self.network_pool,
        };
        // From the choice of an address until a container has it, nobody else chooses.
        let choosing = self.choosing(job.deployment_id);
        let _chosen = choosing.lock().await;
        let network = self
            .engine
            .network_ensure(&order)
            .await
            .map_err(start_failed)?;
        let address = self.place(&job, &network).await.map_err(start_failed)?;
        let order = self.order(&job, network.name, address);
        match self.engine.container_create(&order).await {
            Ok(id) => Ok(Created { id, address }),
            Err(EngineError::Conflict { .. }) => {
                // An earlier try that was cut off before its answer arrived.
                self.engine
                    .container_remove(&order.name)
                    .await
                    .map_err(start_failed)?;
                let id = self
                    .engine
                    .container_create(&order)
                    .await
                    .map_err(start_failed)?;
                Ok(Created { id, address })
            }
            Err(error) => Err(start_failed(error)),
        }
    }

    async fn start(&self, container: &str) -> Result<(), RuntimeError> {
        Ok(self.engine.container_start(container).await?)
    }

    async fn stop(&self, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        Ok(self.engine.container_stop(container, grace).await?)
    }

    async fn remove(&self, container: &str) -> Result<(), RuntimeError> {
        self.engine.container_remove(container).await?;
        Ok(())
    }

    async fn inspect(&self, container: &str) -> Result<Option<ContainerState>, RuntimeError> {
        Ok(self
            .engine
            .container(container)
            .await?
            .map(|found| ContainerState {
                running: found.state == docker::ContainerState::Running,
                restarting: found.state == docker::ContainerState::Restarting,
                exit_code: found.exit_code,
                out_of_memory: found.oom_killed,
                restarts: found.restarts,
                health: found.health.map(|health| match health {
                    docker::Health::Starting => EngineHealth::Starting,
                    docker::Health::Healthy => EngineHealth::Healthy,
                    docker::Health::Unhealthy { .. } => EngineHealth::Unhealthy,
                }),
            }))
    }

    async fn list(
        &self,
        deployment: Option<DeploymentId>,
    ) -> Result<Vec<ContainerFacts>, RuntimeError> {
        let found = self.engine.containers(&self.node, deployment).await?;
        let facts = found.into_iter().map(|(id, owner)| ContainerFacts {
            id,
            deployment_id: owner.deployment,
            service: owner.service,
            attempt: Attempt {
                revision: owner.revision,
                epoch: owner.epoch,
            },
        });
        Ok(facts.collect())
    }

    async fn last_lines(&self, container: &str, count: usize) -> Result<Vec<String>, RuntimeError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(self.engine.last_log_lines(container, count).await?)
    }

    async fn follow(
        &self,
        container: &str,
        tail: u32,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        let query = LogQuery {
            tail,
            since: None,
            follow: true,
        };
        let mut lines = std::pin::pin!(self.engine.container_logs(container, query));
        while let Some(Some(line)) = cancel.run_until_cancelled(lines.next()).await {
            let line = line?;
            log.line(line.stream, &line.text);
        }
        Ok(())
    }

    async fn listening(&self, _container: &str) -> Vec<u16> {
        Vec::new()
    }

    async fn probe(
        &self,
        endpoint: &Endpoint,
        probe: Probe<'_>,
        timeout: Duration,
    ) -> Result<(), String> {
        let (address, reach) = match endpoint {
            Endpoint::Container { address, port } => {
                (SocketAddr::from((*address, *port)), Reach::Direct)
            }
            Endpoint::Published { port } => (
                SocketAddr::from((self.published_at, *port)),
                Reach::Published,
            ),
        };
        let asked = match probe {
            Probe::Tcp => probe_tcp(address, reach, timeout).await,
            Probe::Http { path } => probe_http(address, path, timeout).await.map(drop),
        };
        asked.map_err(|failure| failure.to_string())
    }

    async fn port_is_free(&self, port: u16) -> bool {
        // With a remote engine only that one knows; it refuses a port that is not free.
        self.exposure() == Exposure::Published
            || tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
                .await
                .is_ok()
    }

    async fn expose(&self, routes: &[PortRoute], close: &[u16]) -> Result<(), RuntimeError> {
        let refused =
            |error: crate::forward::ForwardError| RuntimeError::Refused(error.to_string());
        if !routes.is_empty() {
            let routes: Vec<Route> = routes
                .iter()
                .map(|route| Route {
                    port: route.port,
                    target: target(route),
                })
                .collect();
            self.forwarder.put(&routes).await.map_err(refused)?;
        }
        if !close.is_empty() {
            self.forwarder.remove(close).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn exposed(&self) -> Result<Vec<PortRoute>, RuntimeError> {
        let state = self
            .forwarder
            .ensure()
            .await
            .map_err(|error| RuntimeError::Refused(error.to_string()))?;
        let bound = state.routes.into_iter().filter(|route| route.bound);
        let routes = bound.filter_map(|state| match state.route.target {
            SocketAddr::V4(target) => Some(PortRoute {
                port: state.route.port,
                address: *target.ip(),
                container_port: target.port(),
            }),
            SocketAddr::V6(_) => None,
        });
        Ok(routes.collect())
    }

    async fn drained(&self, route: &PortRoute, limit: Duration) {
        match self.forwarder.drained(target(route), limit).await {
            Ok(0) => {}
            Ok(left) => tracing::info!(
                port = route.port,
                left,
                "connections to a replaced container had their time"
            ),
            Err(error) => {
                tracing::warn!(port = route.port, %error, "whether connections have ended is not known")
            }
        }
    }

    async fn purge(&self, deployment_id: DeploymentId, volumes: bool) -> Result<(), RuntimeError> {
        let purged = self
            .engine
            .purge_deployment(deployment_id, &self.node, volumes)
            .await?;
        tracing::info!(%deployment_id, ?purged, "everything of a deployment was removed from the engine");
        Ok(())
    }
}

fn target(route: &PortRoute) -> SocketAddr {
    SocketAddr::from((route.address, route.container_port))
}

fn start_failed(error: EngineError) -> StepError {
    match error {
        EngineError::PortTaken { .. } => {
            StepError::failed(FailureReason::PortUnavailable, error.to_string())
        }
        error => RuntimeError::from(error).while_starting(),
    }
}
