//! Making containers: where they go and what they are made of.

use super::{LocalRuntime, start_failed};
use crate::docker::{
    self, ContainerOrder, EngineError, HealthCommand, NetworkOrder, NetworkPlace, Owner,
    PublishedPort, VolumeMount, container_name, volume_name,
};
use crate::runtime::{ContainerJob, Created, Exposure, Runtime as _, StepError};
use shared::id::DeploymentId;
use shared::spec::{BuildSpec, HealthCheck, HealthSpec, ImageSpec};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};
use tokio::sync::Mutex;

impl LocalRuntime {
    /// Creates a container and, before it, its network.
    pub(super) async fn create_container(
        &self,
        job: ContainerJob<'_>,
    ) -> Result<Created, StepError> {
        let order = self.network_order(job.deployment_id);
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

    pub(super) fn network_order(&self, deployment: DeploymentId) -> NetworkOrder {
        NetworkOrder {
            deployment,
            node: self.node.clone(),
            pool: self.network_pool,
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
            store: job.store,
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
            labels: BTreeMap::new(),
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
            // Of other images, only whoever made them knows what may be their first process.
            init: matches!(
                job.service.image,
                ImageSpec::Build(BuildSpec::BuiltIn { .. })
            ),
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
