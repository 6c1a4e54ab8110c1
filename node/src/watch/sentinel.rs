//! Watching one deployment.

use super::guard::{Guard, Standing};
use crate::action::health::{Answer, Death, Question, ask, last_lines, question};
use crate::action::{recreate, routes, running_facts};
use crate::core::{Core, Subject};
use crate::journal::{DeploymentRecord, RunningRevision, RunningService, StepReport};
use crate::runtime::{ContainerState, EngineEvent, RuntimeError};
use shared::message::{ReportFacts, ServiceFacts};
use shared::status::ApplicationStatus as S;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// How long a container may be neither running nor about to before it is started from here.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Watches a deployment for as long as it is polled.
pub(super) async fn watch(core: Arc<Core>, record: DeploymentRecord) {
    let Some(running) = record.current.clone() else {
        return;
    };
    let mut events = core.events.subscribe();
    let mut sentinel = Sentinel::new(core, record, &running).await;
    loop {
        let due = sentinel
            .guards
            .iter()
            .map(|guard| guard.due)
            .min()
            .unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(event) => sentinel.hear(event).await,
                Err(RecvError::Lagged(_)) => sentinel.hear(EngineEvent::Missed).await,
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep_until(due) => sentinel.look().await,
        }
        sentinel.say().await;
    }
}

struct Sentinel {
    core: Arc<Core>,
    record: DeploymentRecord,
    subject: Subject,
    guards: Vec<Guard>,
    stopped: Vec<RunningService>,
    said: Option<(S, String)>,
}

impl Sentinel {
    async fn new(core: Arc<Core>, record: DeploymentRecord, running: &RunningRevision) -> Self {
        let subject = Subject {
            deployment_id: record.deployment_id,
            revision_id: running.revision_id,
            epoch: running.attempt.epoch,
        };
        let now = Instant::now();
        let mut guards = Vec::new();
        for (spec, service) in running.spec.services.iter().zip(&running.services) {
            if !service.stopped {
                let image = core.runtime.image(&service.image).await;
                let has_health_check = matches!(image, Ok(Some(image)) if image.has_health_check);
                let question = question(spec, has_health_check, service.address, &running.ports);
                guards.push(Guard::new(spec.clone(), service.clone(), question, now));
            }
        }
        let stopped = running
            .services
            .iter()
            .filter(|service| service.stopped)
            .cloned()
            .collect();
        let standing = core.journal.read(|state| {
            state
                .standings
                .get(&subject.revision_id)
                .and_then(|known| known.status)
        });
        let mut sentinel = Self {
            core,
            record,
            subject,
            guards,
            stopped,
            said: None,
        };
        sentinel.begin_with(standing);
        sentinel
    }

    /// A RUNNING that was said by the action that began this is no news. A DEGRADED that was said
    /// before the node was started again holds until every service has answered.
    fn begin_with(&mut self, standing: Option<S>) {
        match standing {
            Some(S::Running) => self.said = Some((S::Running, String::new())),
            Some(S::Degraded) => {
                for guard in &mut self.guards {
                    guard.standing = Standing::Down(format!(
                        "service {} was down before the node was started again",
                        guard.service.name
                    ));
                }
                self.said = Some(self.standing());
            }
            _ => {}
        }
    }

    async fn hear(&mut self, event: EngineEvent) {
        let now = Instant::now();
        match event {
            EngineEvent::Died {
                container,
                exit_code,
            } => {
                let Some(index) = self
                    .guards
                    .iter()
                    .position(|guard| guard.service.container == container)
                else {
                    return;
                };
                let state = self.core.runtime.inspect(&container).await.ok().flatten();
                let out_of_memory = state.as_ref().is_some_and(|state| state.out_of_memory);
                let death = Death {
                    exit_code: Some(exit_code),
                    out_of_memory,
                };
                let lines = last_lines(&self.core, &container).await;
                let guard = &mut self.guards[index];
                if let Some(state) = state {
                    guard.restarts = guard.restarts.max(state.restarts);
                }
                guard.died(&death, &lines, now);
            }
            EngineEvent::Changed { container } => {
                for guard in self
                    .guards
                    .iter_mut()
                    .filter(|guard| guard.service.container == container)
                {
                    guard.due = now;
                }
            }
            EngineEvent::Missed => self.guards.iter_mut().for_each(|guard| guard.due = now),
        }
    }

    async fn look(&mut self) {
        for index in 0..self.guards.len() {
            if self.guards[index].due <= Instant::now() {
                self.look_at(index).await;
                self.guards[index].plan(Instant::now());
            }
        }
    }

    async fn look_at(&mut self, index: usize) {
        let guard = &self.guards[index];
        let container = guard.service.container.clone();
        let answer = ask(
            &self.core,
            &container,
            &guard.question,
            guard.spec.health.timeout,
        )
        .await;
        // What answers from outside runs. The rest is asked of the engine, which knows more.
        let answers_from_outside = matches!(guard.question, Question::Tcp(_) | Question::Http(..))
            && answer == Answer::Healthy;
        if answers_from_outside && guard.standing == Standing::Up {
            self.guards[index].answered(answer, Instant::now());
            return;
        }
        let state = self.core.runtime.inspect(&container).await;
        let now = Instant::now();
        match state {
            Ok(Some(state)) if state.running && !state.restarting => {
                self.is_running(index, &state, answer).await
            }
            Ok(Some(state)) => self.is_not_running(index, &state).await,
            Ok(None) => self.is_gone(index).await,
            // The engine is away; what answers without it serves. Whether the rest runs is not
            // known.
            Err(RuntimeError::Away(_)) => {
                let guard = &mut self.guards[index];
                if guard.question != Question::KeepsRunning {
                    guard.answered(answer, now);
                }
            }
            Err(RuntimeError::PortTaken(reason) | RuntimeError::Refused(reason)) => {
                self.guards[index].answered(Answer::Unhealthy(reason), now)
            }
        }
    }

    async fn is_running(&mut self, index: usize, state: &ContainerState, answer: Answer) {
        let guard = &mut self.guards[index];
        guard.idle_since = None;
        guard.restarts = guard.restarts.max(state.restarts);
        guard.answered(answer, Instant::now());
    }

    /// The engine starts it again by itself, unless it was told otherwise from outside.
    async fn is_not_running(&mut self, index: usize, state: &ContainerState) {
        let now = Instant::now();
        let core = self.core.clone();
        let guard = &mut self.guards[index];
        guard.restarts = guard.restarts.max(state.restarts);
        if guard.standing == Standing::Up {
            let death = Death {
                exit_code: Some(state.exit_code),
                out_of_memory: state.out_of_memory,
            };
            let lines = last_lines(&core, &guard.service.container).await;
            guard.died(&death, &lines, now);
        }
        if state.restarting {
            guard.idle_since = None;
            return;
        }
        let since = *guard.idle_since.get_or_insert(now);
        if now.duration_since(since) < IDLE_LIMIT {
            return;
        }
        guard.idle_since = None;
        tracing::info!(service = %guard.service.name, container = %guard.service.container, "starting a container that the engine leaves stopped");
        if let Err(error) = core.runtime.start(&guard.service.container).await {
            tracing::warn!(service = %guard.service.name, %error, "it could not be started; this is tried again");
        }
    }

    /// Somebody removed it: another one takes its place and its address.
    async fn is_gone(&mut self, index: usize) {
        let now = Instant::now();
        let guard = &mut self.guards[index];
        guard.is_down(
            format!(
                "the container of service {} is gone; it is made again",
                guard.service.name
            ),
            now,
        );
        let since = *guard.idle_since.get_or_insert(now);
        if now.duration_since(since) < IDLE_LIMIT {
            return;
        }
        guard.idle_since = None;
        let service = guard.service.clone();
        match recreate(&self.core, &self.record, &service).await {
            Ok(created) => {
                let address = created.address;
                self.replace(
                    index,
                    RunningService {
                        container: created.id,
                        address,
                        ..service
                    },
                )
                .await;
            }
            Err(error) => {
                tracing::warn!(service = %service.name, %error, "its container could not be made again; this is tried again");
            }
        }
    }

    async fn replace(&mut self, index: usize, service: RunningService) {
        let deployment_id = self.subject.deployment_id;
        let attempt = self.record.current.as_ref().map(|running| running.attempt);
        let written = self
            .core
            .journal
            .change(|draft| {
                draft.deployment_edit(deployment_id, |record| {
                    let current = record
                        .current
                        .as_mut()
                        .filter(|running| Some(running.attempt) == attempt);
                    let known = current.and_then(|running| {
                        running
                            .services
                            .iter_mut()
                            .find(|known| known.name == service.name)
                    });
                    if let Some(known) = known {
                        *known = service.clone();
                    }
                });
                draft.state().deployments.get(&deployment_id).cloned()
            })
            .await;
        if let Ok(Some(record)) = written {
            self.record = record;
        }
        if self.guards[index].service.address != service.address {
            self.has_moved(index, &service).await;
        }
        if let Err(error) = self.core.runtime.start(&service.container).await {
            tracing::warn!(service = %service.name, %error, "a container that was made again did not start; this is tried again");
        }
        self.guards[index].service = service;
    }

    /// Its network was removed as well, so that it has another address now.
    async fn has_moved(&mut self, index: usize, service: &RunningService) {
        let Some(running) = &self.record.current else {
            return;
        };
        let guard = &mut self.guards[index];
        let has_health_check = guard.question == Question::Engine;
        guard.question = question(
            &guard.spec,
            has_health_check,
            service.address,
            &running.ports,
        );
        let led = routes::of(running);
        let deployment_id = self.subject.deployment_id;
        if let Err(error) = self
            .core
            .routes
            .set(&*self.core.runtime, deployment_id, led)
            .await
        {
            tracing::warn!(%deployment_id, %error, "ports do not lead to the new container yet; this is tried again");
        }
    }

    /// Reports where the revision stands when that is news.
    async fn say(&mut self) {
        let (status, detail) = self.standing();
        let now = (status, detail.clone());
        if self.said.as_ref() == Some(&now)
            || (self.said.is_none() && status == S::Running && detail.is_empty())
        {
            return;
        }
        let facts = self.facts();
        let detail = (!detail.is_empty()).then_some(detail);
        let reported = self
            .core
            .report(
                self.subject,
                status,
                StepReport {
                    failure_reason: None,
                    detail,
                    facts,
                },
            )
            .await;
        if reported.is_ok() {
            self.said = Some(now);
            self.core.changed.notify_one();
        }
    }

    fn standing(&self) -> (S, String) {
        let why = |guard: &Guard| match &guard.standing {
            Standing::Up => None,
            Standing::Down(reason) if guard.restarts > 0 => {
                Some(format!("(restarted {}) {reason}", times(guard.restarts)))
            }
            Standing::Down(reason) => Some(reason.clone()),
        };
        let down: Vec<String> = self.guards.iter().filter_map(why).collect();
        if !down.is_empty() {
            return (S::Degraded, down.join("\n"));
        }
        let restarted = self.guards.iter().filter(|guard| guard.restarts > 0);
        let restarted: Vec<String> = restarted
            .map(|guard| {
                format!(
                    "service {} was restarted {}",
                    guard.service.name,
                    times(guard.restarts)
                )
            })
            .collect();
        (S::Running, restarted.join("; "))
    }

    /// All that is known, each time: what said it before may have been lost with the broker.
    fn facts(&self) -> ReportFacts {
        let current = self.record.current.as_ref();
        let watched = current.filter(|running| running.revision_id == self.subject.revision_id);
        ReportFacts {
            services: Some(self.services()),
            ..watched.map(running_facts).unwrap_or_default()
        }
    }

    fn services(&self) -> Vec<ServiceFacts> {
        let guarded = self.guards.iter().map(|guard| ServiceFacts {
            name: guard.service.name.clone(),
            status: if guard.standing == Standing::Up {
                S::Running
            } else {
                S::Degraded
            },
            image: guard.service.image.clone(),
            container: Some(guard.service.container.clone()),
            restarts: guard.restarts,
        });
        let stopped = self.stopped.iter().map(|service| ServiceFacts {
            name: service.name.clone(),
            status: S::Stopped,
            image: service.image.clone(),
            container: Some(service.container.clone()),
            restarts: 0,
        });
        guarded.chain(stopped).collect()
    }
}

fn times(count: u32) -> String {
    if count == 1 {
        "once".to_owned()
    } else {
        format!("{count} times")
    }
}
