//! Containers: made from an order, started, stopped, looked at and removed.

mod create;
mod inspect;
mod order;

pub use inspect::{Container, ContainerState, Health};
pub use order::{ContainerOrder, HealthCommand, NetworkPlace, PublishedPort, VolumeMount};

use super::client::{Engine, QUICK, SLOW};
use super::error::EngineError;
use super::labels::{self, Owner};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    RestartContainerOptions, StartContainerOptions, StopContainerOptions,
};
use shared::id::DeploymentId;
use shared::name::NodeName;
use std::collections::HashMap;
use std::time::Duration;

/// The time between two looks at a container that is being removed.
const GONE_POLL: Duration = Duration::from_millis(50);

impl Engine {
    /// Creates a container and the named volumes that it mounts, and returns its id. It is not
    /// started.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when the name is taken, [`EngineError::NotFound`] when the image or
    /// network is not there.
    pub async fn container_create(&self, order: &ContainerOrder) -> Result<String, EngineError> {
        for volume in &order.volumes {
            self.volume_ensure(&volume.volume, &order.owner).await?;
        }
        let options = CreateContainerOptions {
            name: Some(order.name.clone()),
            ..Default::default()
        };
        let engine_has_init = order.init && self.known_info().await?.init;
        let body = create::body(order, engine_has_init);
        let created = self
            .call("creating a container", SLOW, |docker| async move {
                docker.create_container(Some(options), body).await
            })
            .await?;
        Ok(created.id)
    }

    /// Starts a container; one that runs already is fine.
    ///
    /// # Errors
    /// [`EngineError::PortTaken`] when a published port is bound by something else.
    pub async fn container_start(&self, id: &str) -> Result<(), EngineError> {
        let options = None::<StartContainerOptions>;
        self.call("starting a container", SLOW, |docker| async move {
            docker.start_container(id, options).await
        })
        .await
    }

    /// Asks a container to end, and kills it when it has not after `grace`. One that is not running,
    /// or not there, is fine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn container_stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let options = StopContainerOptions {
            t: Some(whole_seconds(grace)),
            signal: None,
        };
        let stopped = self
            .call("stopping a container", grace + SLOW, |docker| async move {
                docker.stop_container(id, Some(options)).await
            })
            .await;
        match stopped {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops a container as [`Engine::container_stop`] does, and starts it again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it is not there.
    pub async fn container_restart(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let options = RestartContainerOptions {
            t: Some(whole_seconds(grace)),
            signal: None,
        };
        self.call(
            "restarting a container",
            grace + SLOW,
            |docker| async move { docker.restart_container(id, Some(options)).await },
        )
        .await
    }

    /// Kills and removes a container with its anonymous volumes, and returns once it is gone; false
    /// when it is not there.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn container_remove(&self, id: &str) -> Result<bool, EngineError> {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        let removed = self
            .call("removing a container", SLOW, |docker| async move {
                docker.remove_container(id, Some(options)).await
            })
            .await;
        match removed {
            Ok(()) => Ok(true),
            Err(EngineError::NotFound { .. }) => Ok(false),
            // Somebody, such as an earlier attempt of ours, is removing it already.
            Err(EngineError::Conflict { message, .. })
                if message.contains("already in progress") =>
            {
                self.container_gone(id).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until a container that is being removed is gone, and with it its hold on its image.
    async fn container_gone(&self, id: &str) -> Result<(), EngineError> {
        let gone = async {
            while self.container(id).await?.is_some() {
                tokio::time::sleep(GONE_POLL).await;
            }
            Ok(())
        };
        let doing = "waiting for a container to be gone";
        let gone = tokio::time::timeout(SLOW, gone).await;
        gone.unwrap_or(Err(EngineError::Timeout { doing }))
    }

    /// How a container is, by id or name; none when it is not there.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn container(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let options = None::<InspectContainerOptions>;
        let inspected = self
            .call("looking at a container", QUICK, |docker| async move {
                docker.inspect_container(id, options).await
            })
            .await;
        match inspected {
            Ok(container) => Ok(Some(inspect::read(container))),
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The ids of this node's containers with whose they are, running or not; of one deployment
    /// when it is given. Containers whose labels are not all of our making are left out.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn containers(
        &self,
        node: &NodeName,
        deployment: Option<DeploymentId>,
    ) -> Result<Vec<(String, Owner)>, EngineError> {
        let filter = match deployment {
            Some(id) => labels::filter([
                (labels::NODE, node.as_str()),
                (labels::DEPLOYMENT, &id.to_string()),
            ]),
            None => labels::filter([(labels::NODE, node.as_str())]),
        };
        let found = self.list_containers(filter).await?;
        Ok(found
            .into_iter()
            .filter_map(|(id, labels)| Some((id, Owner::from_labels(&labels)?)))
            .collect())
    }

    /// Ids and labels of all containers that pass a filter.
    pub(super) async fn list_containers(
        &self,
        filters: HashMap<String, Vec<String>>,
    ) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(filters),
            ..Default::default()
        };
        let containers = self
            .call("listing containers", QUICK, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        Ok(containers
            .into_iter()
            .filter_map(|container| Some((container.id?, container.labels.unwrap_or_default())))
            .collect())
    }

    /// Makes a named volume with its labels; one that is there is kept as it is.
    async fn volume_ensure(&self, name: &str, owner: &Owner) -> Result<(), EngineError> {
        let request = bollard::models::VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some("local".to_owned()),
            labels: Some(labels::of_deployment(owner.deployment, &owner.node)),
            ..Default::default()
        };
        self.call("making a volume", SLOW, |docker| async move {
            docker.create_volume(request).await
        })
        .await?;
        Ok(())
    }
}

/// The engine counts a grace period in whole seconds; a part of one is given in full.
fn whole_seconds(grace: Duration) -> i32 {
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
