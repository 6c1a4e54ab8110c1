//! The world as it is: Git, the Docker Engine and the port forwarder of this machine.

mod containers;
mod listening;
mod source;

use super::{
    ContainerFacts, ContainerJob, ContainerState, Created, Endpoint, EngineEvent, EngineFacts,
    EngineHealth, Exposure, FetchJob, ImageFacts, LONGEST_TAIL, LogsFrom, PortRoute, Probe,
    Runtime, RuntimeError, StepError, Tree,
};
use crate::config::{BuildLimits, NodeSettings};
use crate::docker::{self, ContainerChange, Engine, EngineError, LogQuery};
use crate::error::StartError;
use crate::forward::{ForwardError, Forwarder, ForwarderSettings, Route};
use crate::git::{self, ChildProgram};
use crate::journal::Attempt;
use crate::log_sink::LogSink;
use crate::probe::{Reach, probe_http, probe_tcp};
use crate::state_dir::StateDir;
use async_trait::async_trait;
use futures::StreamExt as _;
use ipnet::Ipv4Net;
use shared::id::DeploymentId;
use shared::name::NodeName;
use shared::source::{GitUrl, ImageRef, Source};
use source::Fetching;
use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// The world as it is.
pub struct LocalRuntime {
    node: NodeName,
    engine: Engine,
    forwarder: Forwarder,
    /// Whether containers' own addresses can be reached from here, as the engine said last.
    reachable: AtomicBool,
    /// Where the ports are that the engine publishes: an address or a host name.
    published_at: String,
    network_pool: Ipv4Net,
    stop_grace: Duration,
    build_limits: BuildLimits,
    fetching: Fetching,
    /// One for each deployment: its addresses are chosen one after the other.
    choosing: StdMutex<HashMap<DeploymentId, Arc<Mutex<()>>>>,
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
            published_at: settings.advertise.clone(),
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
}

/// Where a published port is. The engine publishes on IPv4, so that comes first.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let unknown = |why: &dyn std::fmt::Display| format!("{host} cannot be looked up: {why}");
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| unknown(&error))?.collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or(found.first())
        .copied()
        .ok_or_else(|| unknown(&"it has no address"))
}

impl From<EngineError> for RuntimeError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::PortTaken { .. } => Self::PortTaken(error.to_string()),
            error if error.is_transient() => Self::Away(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

fn image_facts(image: docker::ImageInfo) -> ImageFacts {
    ImageFacts {
        id: image.id,
        has_health_check: image.healthcheck,
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
        if let Ok(Some(known)) = self.known_image(image).await {
            return Ok(image_facts(known));
        }
        self.pulled(image, log, cancel).await.map(image_facts)
    }

    async fn image_remove(&self, name: &str) -> Result<bool, RuntimeError> {
        match self.engine.image_remove(name).await {
            Ok(_) => Ok(true),
            Err(EngineError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn prepare(&self, deployment: DeploymentId) -> Result<(), RuntimeError> {
        let order = self.network_order(deployment);
        self.engine.network_ensure(&order).await?;
        Ok(())
    }

    async fn unprepare(&self, deployment: DeploymentId) -> Result<(), RuntimeError> {
        let unused = self.engine.network_remove_unused(deployment, &self.node);
        Ok(unused.await?)
    }

    async fn create(&self, job: ContainerJob<'_>) -> Result<Created, StepError> {
        self.create_container(job).await
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
                    docker::Health::Unhealthy { output } => {
                        EngineHealth::Unhealthy { last_run: output }
                    }
                }),
                image: found.image,
                address: found
                    .address
                    .filter(|_| self.exposure() == Exposure::Forwarded),
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
            store: owner.store,
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
        from: &mut LogsFrom,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        if *from == LogsFrom::Tail(0) {
            // A place to go on from also when nothing is printed before the log ends.
            let last = self.engine.last_log_time(container).await?;
            *from = last.map_or(LogsFrom::START, LogsFrom::After);
        }
        let (tail, since) = match *from {
            LogsFrom::Tail(lines) => (lines, None),
            LogsFrom::After(moment) => (LONGEST_TAIL, Some(moment)),
        };
        let query = LogQuery {
            tail,
            since,
            follow: true,
        };
        let mut told = since;
        let mut lines = std::pin::pin!(self.engine.container_logs(container, query));
        loop {
            let Some(next) = cancel.run_until_cancelled(lines.next()).await else {
                return Ok(());
            };
            let Some(line) = next else { break };
            let line = line?;
            // The engine is asked for whole seconds.
            if since.is_some_and(|since| line.at <= since) {
                continue;
            }
            log.line(line.stream, &line.text);
            // The two streams of a container are not quite in order.
            let last = told.map_or(line.at, |told| told.max(line.at));
            told = Some(last);
            *from = LogsFrom::After(last);
        }
        if told.is_none() {
            // It had printed nothing.
            *from = LogsFrom::START;
        }
        Ok(())
    }

    async fn listening(&self, container: &str) -> Vec<u16> {
        if self.exposure() == Exposure::Published {
            // The process is on the engine's host, not here.
            return Vec::new();
        }
        match self.engine.container(container).await {
            Ok(Some(found)) => found.pid.map(listening::ports_of).unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        }
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
            Endpoint::Published { port } => {
                let found = tokio::time::timeout(timeout, resolve(&self.published_at, *port));
                let address = found
                    .await
                    .map_err(|_| format!("looking up {} takes too long", self.published_at))??;
                (address, Reach::Published)
            }
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
        let refused = |error: ForwardError| match error {
            ForwardError::PortTaken { .. } => RuntimeError::PortTaken(error.to_string()),
            // A full disk, no process to be had: nothing is wrong with what the ports lead to.
            error => RuntimeError::Away(error.to_string()),
        };
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

    async fn exposed(&self, needed: bool) -> Result<Vec<PortRoute>, RuntimeError> {
        let state = if needed {
            self.forwarder.ensure().await.map(Some)
        } else {
            self.forwarder.state_if_running().await
        };
        let state = state.map_err(|error| RuntimeError::Refused(error.to_string()))?;
        let routes = state.map(|state| state.routes).unwrap_or_default();
        let bound = routes.into_iter().filter(|route| route.bound);
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
    RuntimeError::from(error).while_starting()
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[tokio::test]
    async fn a_published_port_is_looked_for_where_the_host_name_leads() {
        for host in ["localhost", "127.0.0.1"] {
            assert_eq!(resolve(host, 80).await.unwrap().to_string(), "127.0.0.1:80");
        }
        let error = resolve("not a host", 80).await.unwrap_err();
        assert!(error.contains("not a host cannot be looked up"), "{error}");
    }
}
