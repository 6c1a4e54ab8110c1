//! A machine that exists in memory only: containers are entries in a table, and what a source, a
//! build or a container does is what the test said.
//!
//! The machine outlives the node on it, as a real one does: give a clone of the same
//! [`SimulatedRuntime`] to the next node, and it finds the containers of the one before.

use super::{
    BuildJob, ContainerFacts, ContainerJob, ContainerState, Created, Endpoint, EngineEvent,
    EngineFacts, Exposure, FetchJob, ImageFacts, PortRoute, Probe, Resolved, Runtime, RuntimeError,
    StepError, Tree,
};
use crate::log_sink::LogSink;
use async_trait::async_trait;
use shared::id::DeploymentId;
use shared::name::ServiceName;
use shared::source::{CommitId, GitUrl, ImageRef};
use shared::spec::{
    About, BuildSpec, DeploymentSpec, HealthSpec, ImageSpec, Lang, Resources, ServiceSpec,
};
use shared::status::{FailureReason, LogStream, Method};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It passes.
    Passes,
    /// It fails.
    Fails(FailureReason, String),
    /// It never ends by itself.
    Hangs,
    /// It ends in a way that it never should.
    Panics,
}

/// What the next deployment action meets.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// The source.
    pub fetch: Step,
    /// The build.
    pub build: Step,
    /// Whether its containers answer.
    pub answers: bool,
    /// How its containers end as soon as they are started, if they do.
    pub exits: Option<i64>,
    /// The content that is fetched: another text is another image.
    pub content: String,
    /// When its service counts as healthy.
    pub health: HealthSpec,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            fetch: Step::Passes,
            build: Step::Passes,
            answers: true,
            exits: None,
            content: "a".to_owned(),
            health: HealthSpec::default(),
        }
    }
}

/// A machine in memory. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct SimulatedRuntime {
    machine: Arc<Mutex<Machine>>,
    happened: broadcast::Sender<EngineEvent>,
}

#[derive(Debug, Default)]
struct Machine {
    behaviour: Behaviour,
    is_away: bool,
    containers: BTreeMap<String, SimulatedContainer>,
    images: BTreeSet<String>,
    routes: BTreeMap<u16, PortRoute>,
    taken_ports: BTreeSet<u16>,
    made: u32,
    builds: u32,
    steps: Vec<String>,
}

/// A container of a [`SimulatedRuntime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedContainer {
    /// What its labels say.
    pub facts: ContainerFacts,
    /// How it is.
    pub state: ContainerState,
    /// Its address.
    pub address: Ipv4Addr,
    answers: bool,
    exits: Option<i64>,
}

impl Default for SimulatedRuntime {
    fn default() -> Self {
        Self {
            machine: Arc::default(),
            happened: broadcast::channel(1024).0,
        }
    }
}

impl SimulatedRuntime {
    /// Says what happens from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.machine().behaviour);
    }

    /// The engine goes away, or comes back.
    pub fn engine_is_away(&self, is_away: bool) {
        self.machine().is_away = is_away;
    }

    /// Something else on the machine takes a port.
    pub fn take_port(&self, port: u16) {
        self.machine().taken_ports.insert(port);
    }

    /// Every container.
    #[must_use]
    pub fn containers(&self) -> Vec<SimulatedContainer> {
        self.machine().containers.values().cloned().collect()
    }

    /// Where ports lead.
    #[must_use]
    pub fn routes(&self) -> Vec<PortRoute> {
        self.machine().routes.values().copied().collect()
    }

    /// Every image that was built.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        self.machine().images.iter().cloned().collect()
    }

    /// How many builds were done.
    #[must_use]
    pub fn builds(&self) -> u32 {
        self.machine().builds
    }

    /// What was asked of this machine, in order: `fetch`, `build`, `create 1.1` and the like.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.machine().steps.clone()
    }

    /// A container ends, and the engine starts it again.
    pub fn crash(&self, container: &str, exit_code: i64) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.state.restarts += 1;
            found.state.exit_code = exit_code;
        }
        self.say(EngineEvent::Died {
            container: container.to_owned(),
            exit_code,
        });
        self.say(EngineEvent::Changed {
            container: container.to_owned(),
        });
    }

    /// Somebody stops a container by hand: the engine leaves it stopped.
    pub fn stop_by_hand(&self, container: &str) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.state.running = false;
            found.state.exit_code = 137;
        }
        self.say(EngineEvent::Died {
            container: container.to_owned(),
            exit_code: 137,
        });
    }

    /// Somebody removes a container by hand.
    pub fn remove_by_hand(&self, container: &str) {
        self.machine().containers.remove(container);
        self.say(EngineEvent::Changed {
            container: container.to_owned(),
        });
    }

    /// From now on a container answers, or does not.
    pub fn answer(&self, container: &str, answers: bool) {
        if let Some(found) = self.machine().containers.get_mut(container) {
            found.answers = answers;
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, when its engine answers.
    fn engine_machine(&self) -> Result<MutexGuard<'_, Machine>, RuntimeError> {
        let machine = self.machine();
        if machine.is_away {
            Err(RuntimeError::Away("it was switched off".to_owned()))
        } else {
            Ok(machine)
        }
    }

    fn say(&self, event: EngineEvent) {
        // Nobody has to listen.
        let _ = self.happened.send(event);
    }
}

#[expect(
    clippy::panic,
    reason = "that actions survive a panic can only be tried with one"
)]
async fn step(step: Step, cancel: &CancellationToken) -> Result<(), StepError> {
    match step {
        Step::Passes => Ok(()),
        Step::Fails(reason, detail) => Err(StepError::failed(reason, detail)),
        Step::Hangs => {
            cancel.cancelled().await;
            Err(StepError::Interrupted)
        }
        Step::Panics => panic!("a step panics, as a test asked for"),
    }
}

struct SimulatedTree {
    resolved: Resolved,
    runtime: SimulatedRuntime,
}

#[async_trait]
impl Tree for SimulatedTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, job: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        let build = {
            let mut machine = self
                .runtime
                .engine_machine()
                .map_err(RuntimeError::while_starting)?;
            machine.steps.push("build".to_owned());
            machine.behaviour.build.clone()
        };
        job.log.line(LogStream::Stdout, "building");
        step(build, job.cancel).await?;
        let mut machine = self
            .runtime
            .engine_machine()
            .map_err(RuntimeError::while_starting)?;
        machine.builds += 1;
        machine.images.insert(job.tag.to_owned());
        Ok(ImageFacts {
            id: job.tag.to_owned(),
            has_health_check: false,
        })
    }
}

fn spec(health: HealthSpec) -> DeploymentSpec {
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Build(BuildSpec::BuiltIn {
            lang: Lang::Static,
            run: None,
        }),
        command: None,
        env: BTreeMap::new(),
        ports: vec![8000],
        volumes: Vec::new(),
        health,
        resources: Resources::default(),
        domain: None,
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: About::default(),
    }
}

#[async_trait]
impl Runtime for SimulatedRuntime {
    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        drop(self.engine_machine()?);
        Ok(EngineFacts {
            version: "simulated".to_owned(),
        })
    }

    fn exposure(&self) -> Exposure {
        Exposure::Forwarded
    }

    async fn watch(&self, events: mpsc::Sender<EngineEvent>, stop: CancellationToken) {
        let mut happened = self.happened.subscribe();
        while let Some(event) = stop.run_until_cancelled(happened.recv()).await {
            let event = match event {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => EngineEvent::Missed,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn fetch(&self, job: FetchJob<'_>) -> Result<Box<dyn Tree>, StepError> {
        let behaviour = {
            let mut machine = self.machine();
            machine.steps.push("fetch".to_owned());
            machine.behaviour.clone()
        };
        step(behaviour.fetch, job.cancel).await?;
        // Contents of one hexadecimal digit are commits of their own.
        let head = CommitId::parse(&behaviour.content.repeat(40));
        let resolved = Resolved {
            commit: job.commit.cloned().or(head.ok()),
            image_digest: None,
            content_hash: format!("{:0<64}", behaviour.content),
            spec: spec(behaviour.health),
            warnings: vec!["a warning".to_owned()],
        };
        Ok(Box::new(SimulatedTree {
            resolved,
            runtime: self.clone(),
        }))
    }

    async fn forget_repository(&self, _: &GitUrl) -> Result<(), RuntimeError> {
        self.machine().steps.push("forget repository".to_owned());
        Ok(())
    }

    async fn image(&self, name: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        let machine = self.engine_machine()?;
        let facts = || ImageFacts {
            id: name.to_owned(),
            has_health_check: false,
        };
        Ok(machine.images.contains(name).then(facts))
    }

    async fn pull(
        &self,
        image: &ImageRef,
        _: &LogSink,
        _: &CancellationToken,
    ) -> Result<ImageFacts, StepError> {
        Ok(ImageFacts {
            id: image.to_string(),
            has_health_check: false,
        })
    }

    async fn image_remove(&self, name: &str) -> Result<(), RuntimeError> {
        self.engine_machine()?.images.remove(name);
        Ok(())
    }

    async fn create(&self, job: ContainerJob<'_>) -> Result<Created, StepError> {
        let mut machine = self
            .engine_machine()
            .map_err(RuntimeError::while_starting)?;
        machine.made += 1;
        machine.steps.push(format!(
            "create {}.{}",
            job.attempt.revision, job.attempt.epoch
        ));
        let id = format!("container-{}", machine.made);
        let address = job
            .address
            .unwrap_or_else(|| Ipv4Addr::from_bits(0x0a_c9_00_01 + machine.made));
        let facts = ContainerFacts {
            id: id.clone(),
            deployment_id: job.deployment_id,
            service: job.service.name.clone(),
            attempt: job.attempt,
            store: job.store,
        };
        let state = ContainerState {
            running: false,
            restarting: false,
            exit_code: 0,
            out_of_memory: false,
            restarts: 0,
            health: None,
            image: job.image.to_owned(),
            address: Some(address),
        };
        let Behaviour { answers, exits, .. } = machine.behaviour;
        // A name is taken once: what an earlier try made under it gives way.
        machine.containers.retain(|_, other| {
            other.facts.deployment_id != job.deployment_id
                || other.facts.attempt != job.attempt
                || other.facts.service != job.service.name
        });
        machine.containers.insert(
            id.clone(),
            SimulatedContainer {
                facts,
                state,
                address,
                answers,
                exits,
            },
        );
        Ok(Created {
            id,
            address: Some(address),
        })
    }

    async fn start(&self, container: &str) -> Result<(), RuntimeError> {
        let died = {
            let mut machine = self.engine_machine()?;
            let found = machine.containers.get_mut(container);
            let found =
                found.ok_or_else(|| RuntimeError::Refused("no such container".to_owned()))?;
            found.state.running = found.exits.is_none();
            if let Some(exit_code) = found.exits {
                found.state.exit_code = exit_code;
            }
            found.exits
        };
        match died {
            Some(exit_code) => self.say(EngineEvent::Died {
                container: container.to_owned(),
                exit_code,
            }),
            None => self.say(EngineEvent::Changed {
                container: container.to_owned(),
            }),
        }
        Ok(())
    }

    async fn stop(&self, container: &str, _: Duration) -> Result<(), RuntimeError> {
        if let Some(found) = self.engine_machine()?.containers.get_mut(container) {
            found.state.running = false;
        }
        Ok(())
    }

    async fn remove(&self, container: &str) -> Result<(), RuntimeError> {
        let mut machine = self.engine_machine()?;
        if let Some(removed) = machine.containers.remove(container) {
            let attempt = removed.facts.attempt;
            machine
                .steps
                .push(format!("remove {}.{}", attempt.revision, attempt.epoch));
        }
        Ok(())
    }

    async fn inspect(&self, container: &str) -> Result<Option<ContainerState>, RuntimeError> {
        Ok(self
            .engine_machine()?
            .containers
            .get(container)
            .map(|found| found.state.clone()))
    }

    async fn list(
        &self,
        deployment: Option<DeploymentId>,
    ) -> Result<Vec<ContainerFacts>, RuntimeError> {
        let machine = self.engine_machine()?;
        let meant = |facts: &&ContainerFacts| deployment.is_none_or(|id| id == facts.deployment_id);
        Ok(machine
            .containers
            .values()
            .map(|container| &container.facts)
            .filter(meant)
            .cloned()
            .collect())
    }

    async fn last_lines(&self, _: &str, _: usize) -> Result<Vec<String>, RuntimeError> {
        Ok(vec!["its last line".to_owned()])
    }

    async fn follow(
        &self,
        container: &str,
        tail: u32,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        if tail > 0 {
            log.line(LogStream::Stdout, &format!("a line of {container}"));
        }
        cancel.cancelled().await;
        Ok(())
    }

    async fn listening(&self, _: &str) -> Vec<u16> {
        vec![3000]
    }

    async fn probe(&self, endpoint: &Endpoint, _: Probe<'_>, _: Duration) -> Result<(), String> {
        let machine = self.machine();
        let answers = machine.containers.values().any(|container| {
            let is_meant = matches!(endpoint, Endpoint::Container { address, .. } if *address == container.address);
            is_meant && container.state.running && container.answers
        });
        if answers {
            Ok(())
        } else {
            Err("connection refused".to_owned())
        }
    }

    async fn port_is_free(&self, port: u16) -> bool {
        let machine = self.machine();
        !machine.taken_ports.contains(&port) && !machine.routes.contains_key(&port)
    }

    async fn expose(&self, routes: &[PortRoute], close: &[u16]) -> Result<(), RuntimeError> {
        let mut machine = self.machine();
        if let Some(taken) = routes
            .iter()
            .find(|route| machine.taken_ports.contains(&route.port))
        {
            return Err(RuntimeError::Refused(format!(
                "port {} is taken",
                taken.port
            )));
        }
        for route in routes {
            machine.routes.insert(route.port, *route);
        }
        machine.routes.retain(|port, _| !close.contains(port));
        Ok(())
    }

    async fn exposed(&self, _: bool) -> Result<Vec<PortRoute>, RuntimeError> {
        Ok(self.routes())
    }

    async fn drained(&self, _: &PortRoute, _: Duration) {}

    async fn purge(&self, deployment_id: DeploymentId, _: bool) -> Result<(), RuntimeError> {
        let mut machine = self.engine_machine()?;
        machine.steps.push("purge".to_owned());
        machine
            .containers
            .retain(|_, container| container.facts.deployment_id != deployment_id);
        let prefix = format!("longshore/{deployment_id}:");
        machine.images.retain(|image| !image.starts_with(&prefix));
        Ok(())
    }
}
