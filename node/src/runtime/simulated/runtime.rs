//! The simulated machine as a node has it.

use super::source::{Behaviour, SimulatedTree, spec, step};
use super::{SimulatedContainer, SimulatedRuntime};
use crate::log_sink::LogSink;
use crate::runtime::{
    ContainerFacts, ContainerJob, ContainerState, Created, Endpoint, EngineEvent, EngineFacts,
    Exposure, FetchJob, ImageFacts, LogsFrom, PortRoute, Probe, Resolved, Runtime, RuntimeError,
    StepError, Tree,
};
use async_trait::async_trait;
use shared::id::DeploymentId;
use shared::source::{CommitId, GitUrl, ImageDigest, ImageRef, Source};
use shared::status::LogStream;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

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
        // Contents of one hexadecimal digit are versions of their own.
        let content = &behaviour.content;
        let head = CommitId::parse(&content.repeat(40)).ok();
        let commit = job.commit.cloned().or(head);
        if let (Source::GitApp(_), Some(commit)) = (job.source, &commit) {
            // As the last thing of a fetch that is known whatever is wrong with the tree.
            let _ = job.found.set(commit.clone());
        }
        step(behaviour.fetch, job.cancel).await?;
        let (commit, image_digest) = match job.source {
            Source::GitApp(_) => (commit, None),
            Source::Image(source) => {
                let newest = ImageDigest::parse(&format!("sha256:{}", content.repeat(64))).ok();
                (None, source.image.digest().or(newest))
            }
        };
        let resolved = Resolved {
            commit,
            image_digest,
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

    async fn image_remove(&self, name: &str) -> Result<bool, RuntimeError> {
        let mut machine = self.engine_machine()?;
        let mut containers = machine.containers.values();
        let in_use = containers.any(|container| container.state.image == name);
        if !in_use {
            machine.images.remove(name);
        }
        Ok(!in_use)
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
                printed: Vec::new(),
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
            if !found.state.running {
                found.print();
            }
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
        let ran = match self.engine_machine()?.containers.get_mut(container) {
            Some(found) => std::mem::replace(&mut found.state.running, false),
            None => false,
        };
        // As an engine tells it: who asked for it is not said.
        if ran {
            self.say(EngineEvent::Died {
                container: container.to_owned(),
                exit_code: 143,
            });
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
        from: &mut LogsFrom,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        let mut happened = self.happened.subscribe();
        self.machine().steps.push("follow".to_owned());
        loop {
            let (printed, runs) = {
                let machine = self.engine_machine()?;
                let found = machine.containers.get(container);
                let found =
                    found.ok_or_else(|| RuntimeError::Refused("no such container".to_owned()))?;
                (found.printed.clone(), found.state.running)
            };
            let wanted = match *from {
                LogsFrom::Tail(lines) => printed.len().saturating_sub(lines as usize),
                LogsFrom::After(moment) => printed.partition_point(|(at, _)| *at <= moment),
            };
            for (_, line) in &printed[wanted..] {
                log.line(LogStream::Stdout, line);
            }
            *from = printed
                .last()
                .map_or(LogsFrom::START, |(at, _)| LogsFrom::After(*at));
            if !runs {
                return Ok(());
            }
            match cancel.run_until_cancelled(happened.recv()).await {
                Some(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                Some(Err(broadcast::error::RecvError::Closed)) | None => return Ok(()),
            }
        }
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
        if machine.behaviour.refuses_purge {
            return Err(RuntimeError::Refused("it is in use".to_owned()));
        }
        machine
            .containers
            .retain(|_, container| container.facts.deployment_id != deployment_id);
        let prefix = format!("longshore/{deployment_id}:");
        machine.images.retain(|image| !image.starts_with(&prefix));
        Ok(())
    }
}
