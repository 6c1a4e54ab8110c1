//! A machine as one life of its node has it: the simulated container engine, in which things take
//! time and which the node reaches through its gate.

use crate::dice::Dice;
use crate::life::Life;
use crate::source::{Repositories, Version};
use crate::trace::Trace;
use async_trait::async_trait;
use node::log_sink::LogSink;
use node::runtime::simulated::SimulatedRuntime;
use node::runtime::{
    BuildJob, ContainerFacts, ContainerJob, ContainerState, Created, Endpoint, EngineEvent,
    EngineFacts, Exposure, FetchJob, ImageFacts, LogsFrom, PortRoute, Probe, Resolved, Runtime,
    RuntimeError, StepError, Tree,
};
use shared::id::DeploymentId;
use shared::simulation::{Effect, Gate};
use shared::source::{CommitId, GitUrl, ImageRef, Source};
use shared::status::FailureReason;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many containers of one service may run at once.
const ALLOWED: usize = 3;

/// How long a build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(40);

/// A machine as one life of its node has it.
#[derive(Clone)]
pub(crate) struct ChaosRuntime {
    pub(crate) engine: SimulatedRuntime,
    pub(crate) life: Arc<Life>,
    pub(crate) trace: Trace,
    pub(crate) repositories: Repositories,
    pub(crate) dice: Dice,
}

impl ChaosRuntime {
    async fn before(&self) {
        // The engine says itself when it is away.
        let _ = self.life.pass(Effect::Engine).await;
    }

    /// It is done, whoever hears of it.
    async fn after<T>(&self, answer: T) -> T {
        let _ = self.life.pass(Effect::EngineDone).await;
        answer
    }

    /// Beside what serves and what comes there may be what goes, for its last moments.
    fn check_allowance(&self, started: &str) {
        let containers = self.engine.containers();
        let Some(started) = containers.iter().find(|it| it.facts.id == started) else {
            return;
        };
        let beside = containers.iter().filter(|it| {
            it.state.running
                && it.facts.deployment_id == started.facts.deployment_id
                && it.facts.service == started.facts.service
        });
        let running = beside.count();
        if running > ALLOWED {
            let id = started.facts.deployment_id;
            self.trace.complain(format!(
                "{} runs {running} containers of one service of {id}",
                self.life.who
            ));
        }
    }

    /// Lets time pass, before something happens that a dead node no longer asks for.
    async fn takes(&self, low: u64, high: u64) {
        self.before().await;
        tokio::time::sleep(self.dice.millis(low, high)).await;
        self.life.go_on().await;
    }
}

/// Lets time pass, unless whoever asked no longer wants it.
async fn unless_cancelled(time: Duration, cancel: &CancellationToken) -> Result<(), StepError> {
    cancel
        .run_until_cancelled(tokio::time::sleep(time))
        .await
        .ok_or(StepError::Interrupted)
}

struct ChaosTree {
    resolved: Resolved,
    version: Version,
    inner: Box<dyn Tree>,
    runtime: ChaosRuntime,
}

#[async_trait]
impl Tree for ChaosTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, job: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        let Self {
            version,
            inner,
            runtime,
            ..
        } = *self;
        runtime.before().await;
        if version.hangs() {
            unless_cancelled(BUILD_LIMIT, job.cancel).await?;
            runtime.life.go_on().await;
            return Err(StepError::failed(
                FailureReason::BuildTimeout,
                "it took too long",
            ));
        }
        unless_cancelled(version.build_takes, job.cancel).await?;
        runtime.life.go_on().await;
        // What the engine does next is asked for in the same moment: nobody comes in between.
        runtime
            .engine
            .behave(|behaviour| behaviour.build = version.behaviour.build.clone());
        let built = inner.build(job).await;
        runtime.after(built).await
    }
}

#[async_trait]
impl Runtime for ChaosRuntime {
    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        self.before().await;
        self.engine.engine().await
    }

    fn exposure(&self) -> Exposure {
        self.engine.exposure()
    }

    async fn watch(&self, events: mpsc::Sender<EngineEvent>, stop: CancellationToken) {
        self.engine.watch(events, stop).await;
    }

    async fn fetch(&self, job: FetchJob<'_>) -> Result<Box<dyn Tree>, StepError> {
        self.before().await;
        let url = match job.source {
            Source::GitApp(git) => git.url.to_string(),
            Source::Image(_) => String::new(),
        };
        let Some(version) = self.repositories.find(&url, job.commit) else {
            return Err(StepError::failed(
                FailureReason::FetchFailed,
                "no such version",
            ));
        };
        unless_cancelled(version.fetch_takes, job.cancel).await?;
        self.life.go_on().await;
        self.engine
            .behave(|behaviour| *behaviour = version.behaviour.clone());
        let inner = self.engine.fetch(job).await;
        let inner = self.after(inner).await?;
        let resolved = Resolved {
            commit: CommitId::parse(&version.commit).ok(),
            ..inner.resolved().clone()
        };
        Ok(Box::new(ChaosTree {
            resolved,
            version,
            inner,
            runtime: self.clone(),
        }))
    }

    async fn forget_repository(&self, url: &GitUrl) -> Result<(), RuntimeError> {
        self.before().await;
        self.engine.forget_repository(url).await
    }

    async fn image(&self, name: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        self.before().await;
        self.engine.image(name).await
    }

    async fn pull(
        &self,
        image: &ImageRef,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageFacts, StepError> {
        self.takes(5, 2000).await;
        let pulled = self.engine.pull(image, log, cancel).await;
        self.after(pulled).await
    }

    async fn image_remove(&self, name: &str) -> Result<bool, RuntimeError> {
        self.takes(1, 20).await;
        let removed = self.engine.image_remove(name).await;
        self.after(removed).await
    }

    async fn create(&self, job: ContainerJob<'_>) -> Result<Created, StepError> {
        self.takes(2, 200).await;
        if let Some(version) = self.repositories.of_image(job.image) {
            self.engine.behave(|behaviour| {
                behaviour.answers = version.behaviour.answers;
                behaviour.exits = version.behaviour.exits;
            });
        }
        let created = self.engine.create(job).await;
        self.after(created).await
    }

    async fn start(&self, container: &str) -> Result<(), RuntimeError> {
        self.takes(2, 400).await;
        let started = self.engine.start(container).await;
        self.check_allowance(container);
        self.after(started).await
    }

    async fn stop(&self, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        let most = u64::try_from(grace.as_millis())
            .unwrap_or(1000)
            .clamp(2, 2000);
        self.takes(2, most).await;
        let stopped = self.engine.stop(container, grace).await;
        self.after(stopped).await
    }

    async fn remove(&self, container: &str) -> Result<(), RuntimeError> {
        self.takes(2, 100).await;
        let removed = self.engine.remove(container).await;
        self.after(removed).await
    }

    async fn inspect(&self, container: &str) -> Result<Option<ContainerState>, RuntimeError> {
        self.before().await;
        self.engine.inspect(container).await
    }

    async fn list(
        &self,
        deployment: Option<DeploymentId>,
    ) -> Result<Vec<ContainerFacts>, RuntimeError> {
        self.before().await;
        self.engine.list(deployment).await
    }

    async fn last_lines(&self, container: &str, count: usize) -> Result<Vec<String>, RuntimeError> {
        self.before().await;
        self.engine.last_lines(container, count).await
    }

    async fn follow(
        &self,
        container: &str,
        from: &mut LogsFrom,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        self.before().await;
        self.engine.follow(container, from, log, cancel).await
    }

    async fn listening(&self, container: &str) -> Vec<u16> {
        self.before().await;
        self.engine.listening(container).await
    }

    async fn probe(
        &self,
        endpoint: &Endpoint,
        probe: Probe<'_>,
        timeout: Duration,
    ) -> Result<(), String> {
        self.before().await;
        self.engine.probe(endpoint, probe, timeout).await
    }

    async fn port_is_free(&self, port: u16) -> bool {
        self.before().await;
        self.engine.port_is_free(port).await
    }

    async fn expose(&self, routes: &[PortRoute], close: &[u16]) -> Result<(), RuntimeError> {
        self.takes(0, 3).await;
        let exposed = self.engine.expose(routes, close).await;
        self.after(exposed).await
    }

    async fn exposed(&self, needed: bool) -> Result<Vec<PortRoute>, RuntimeError> {
        self.before().await;
        self.engine.exposed(needed).await
    }

    async fn drained(&self, route: &PortRoute, limit: Duration) {
        let most = u64::try_from(limit.as_millis()).unwrap_or(1000).min(1000);
        self.takes(0, most).await;
        self.engine.drained(route, limit).await;
    }

    async fn purge(&self, deployment: DeploymentId, volumes: bool) -> Result<(), RuntimeError> {
        self.takes(2, 300).await;
        let purged = self.engine.purge(deployment, volumes).await;
        self.after(purged).await
    }
}
