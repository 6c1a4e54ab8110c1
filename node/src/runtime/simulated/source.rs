//! What the sources and builds of a simulated machine do.

use super::SimulatedRuntime;
use crate::runtime::{BuildJob, ImageFacts, Resolved, RuntimeError, StepError, Tree};
use async_trait::async_trait;
use shared::name::ServiceName;
use shared::spec::{
    About, BuildSpec, DeploymentSpec, HealthSpec, ImageSpec, Lang, Resources, ServiceSpec,
};
use shared::status::{FailureReason, LogStream, Method};
use std::collections::BTreeMap;
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
    /// It takes the engine down.
    Fells,
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
    /// Whether nothing of a deployment can be removed at once.
    pub refuses_purge: bool,
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
            refuses_purge: false,
            content: "a".to_owned(),
            health: HealthSpec::default(),
        }
    }
}

#[expect(
    clippy::panic,
    reason = "that actions survive a panic can only be tried with one"
)]
pub(super) async fn step(step: Step, cancel: &CancellationToken) -> Result<(), StepError> {
    match step {
        Step::Passes => Ok(()),
        Step::Fails(reason, detail) => Err(StepError::failed(reason, detail)),
        Step::Hangs => {
            cancel.cancelled().await;
            Err(StepError::Interrupted)
        }
        Step::Fells => Err(StepError::EngineAway("the engine ended".to_owned())),
        Step::Panics => panic!("a step panics, as a test asked for"),
    }
}

pub(super) struct SimulatedTree {
    pub(super) resolved: Resolved,
    pub(super) runtime: SimulatedRuntime,
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

pub(super) fn spec(health: HealthSpec) -> DeploymentSpec {
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
