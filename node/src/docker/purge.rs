//! Removing everything of a deployment from this node.

use super::client::{Engine, QUICK, SLOW};
use super::error::EngineError;
use super::labels;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use futures::{StreamExt, TryStreamExt};
use shared::id::DeploymentId;
use shared::name::NodeName;

/// How many containers are removed at once.
const AT_ONCE: usize = 4;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Containers.
    pub containers: u32,
    /// Networks.
    pub networks: u32,
    /// Tags and untagged images.
    pub images: u32,
    /// Volumes.
    pub volumes: u32,
}

impl Engine {
    /// Removes every container, network and image of a deployment on this node, and its volumes
    /// when asked to. Nothing of another deployment or node is touched; doing it again removes
    /// what was left. What BuildKit keeps to build faster is shared by the whole engine and
    /// pruned by the engine itself.
    ///
    /// # Errors
    /// [`EngineError`] of the first thing that could not be removed; the rest may still be there.
    pub async fn purge_deployment(
        &self,
        deployment: DeploymentId,
        node: &NodeName,
        volumes: bool,
    ) -> Result<Purged, EngineError> {
        let mut purged = Purged {
            containers: self.purge_containers(deployment, node).await?,
            ..Purged::default()
        };
        purged.networks = self.network_remove(deployment, node).await?;
        purged.images = self.purge_images(deployment).await?;
        if volumes {
            purged.volumes = self.purge_volumes(deployment, node).await?;
        }
        Ok(purged)
    }

    async fn purge_containers(
        &self,
        deployment: DeploymentId,
        node: &NodeName,
    ) -> Result<u32, EngineError> {
        let filter = labels::filter([
            (labels::DEPLOYMENT, &deployment.to_string()),
            (labels::NODE, node.as_str()),
        ]);
        let found = self.list_containers(filter).await?;
        let removals = found
            .into_iter()
            .map(|(id, _)| async move { self.container_remove(&id).await });
        futures::stream::iter(removals)
            .buffer_unordered(AT_ONCE)
            .try_fold(
                0,
                |count, removed| async move { Ok(count + u32::from(removed)) },
            )
            .await
    }

    /// Images are the deployment's, whichever node built them: they can be built again. One that
    /// another node on this engine still runs stays, for it is that node's to remove.
    async fn purge_images(&self, deployment: DeploymentId) -> Result<u32, EngineError> {
        let own = format!("{}:", labels::image_repository(deployment));
        let mut removed = 0;
        for image in self.images_of(deployment).await? {
            let names = match image.tags.is_empty() {
                true => vec![image.id],
                false => image
                    .tags
                    .into_iter()
                    .filter(|tag| tag.starts_with(&own))
                    .collect(),
            };
            for name in names {
                match self.image_remove(&name).await {
                    Ok(gone) => removed += u32::from(gone),
                    Err(EngineError::Conflict { message, .. }) => {
                        tracing::info!(image = %name, reason = %message, "an image is still in use and stays");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    async fn purge_volumes(
        &self,
        deployment: DeploymentId,
        node: &NodeName,
    ) -> Result<u32, EngineError> {
        let filter = labels::filter([
            (labels::DEPLOYMENT, &deployment.to_string()),
            (labels::NODE, node.as_str()),
        ]);
        let options = ListVolumesOptions {
            filters: Some(filter),
        };
        let listed = self
            .call("listing volumes", QUICK, |docker| async move {
                docker.list_volumes(Some(options)).await
            })
            .await?;
        let mut removed = 0;
        for volume in listed.volumes.unwrap_or_default() {
            let options = RemoveVolumeOptions { force: true };
            let name = volume.name.as_str();
            let done = self
                .call("removing a volume", SLOW, |docker| async move {
                    docker.remove_volume(name, Some(options)).await
                })
                .await;
            match done {
                Ok(()) => removed += 1,
                Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}
