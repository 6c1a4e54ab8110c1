//! Images: looking at them, pulling them, and removing those that were built for a deployment.

use super::client::{Engine, QUICK, SLOW};
use super::error::{EngineError, shown};
use super::labels;
use crate::log_sink::LogSink;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::{
    CreateImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use futures::StreamExt;
use shared::id::DeploymentId;
use shared::source::ImageRef;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a node needs to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The engine's id, `sha256:…`.
    pub id: String,
    /// Whether it brings a health check of its own.
    pub healthcheck: bool,
    /// TCP ports that it says it listens on, ascending.
    pub exposed: Vec<u16>,
    /// The signal that ends it, when not the usual one.
    pub stop_signal: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// What it is known by in registries, `name@sha256:…`.
    pub digests: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// It was built for a deployment, by a node.
    pub is_ours: bool,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The engine's id, `sha256:…`.
    pub id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its size in bytes.
    pub size: u64,
}

impl Engine {
    /// The image of that name or id, or none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError> {
        let inspected = self
            .call("looking at an image", QUICK, |docker| async move {
                docker.inspect_image(name).await
            })
            .await;
        match inspected {
            Ok(image) => Ok(Some(read_image(image))),
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an image another tag, `repository:tag`.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such image.
    pub async fn image_tag(&self, image: &str, tag: &str) -> Result<(), EngineError> {
        let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
        let options = TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
        };
        self.call("tagging an image", QUICK, |docker| async move {
            docker.tag_image(image, Some(options)).await
        })
        .await
    }

    /// Removes an image by tag or id; false when it is not there (any more).
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when a container still uses it.
    pub async fn image_remove(&self, name: &str) -> Result<bool, EngineError> {
        let options = RemoveImageOptions {
            force: false,
            noprune: false,
            platforms: None,
        };
        let removed = self
            .call("removing an image", SLOW, |docker| async move {
                docker.remove_image(name, Some(options), None).await
            })
            .await;
        match removed {
            Ok(_) => Ok(true),
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The images that were built for a deployment, newest first: by label, which also finds those
    /// that have lost their tag, and by tag.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn images_of(
        &self,
        deployment: DeploymentId,
    ) -> Result<Vec<ImageSummary>, EngineError> {
        let by_label = labels::filter([(labels::DEPLOYMENT, &deployment.to_string())]);
        let by_name = HashMap::from([(
            "reference".to_owned(),
            vec![labels::image_repository(deployment)],
        )]);
        let mut found = BTreeMap::new();
        for filters in [by_label, by_name] {
            let options = ListImagesOptions {
                all: false,
                filters: Some(filters),
                ..Default::default()
            };
            let images = self
                .call("listing images", QUICK, |docker| async move {
                    docker.list_images(Some(options)).await
                })
                .await?;
            for image in images {
                let summary = ImageSummary {
                    // An image without a tag is listed with this in its place.
                    tags: image
                        .repo_tags
                        .into_iter()
                        .filter(|tag| tag != "<none>:<none>")
                        .collect(),
                    created: image.created,
                    size: image.size.try_into().unwrap_or(0),
                    id: image.id,
                };
                found.insert(summary.id.clone(), summary);
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(found)
    }

    /// Pulls an image, saying what is being done, and returns what was pulled.
    ///
    /// # Errors
    /// [`EngineError::Timeout`] after `limit`; [`EngineError::Conflict`] when cancelled; what the
    /// registry said otherwise.
    pub async fn image_pull(
        &self,
        image: &ImageRef,
        limit: Duration,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageInfo, EngineError> {
        const DOING: &str = "pulling an image";
        let name = image.as_str();
        // Without a tag or digest the engine would pull every tag.
        let last = name.rsplit('/').next().unwrap_or(name);
        let full = if last.contains([':', '@']) {
            name.to_owned()
        } else {
            format!("{name}:latest")
        };
        let docker = self.docker(DOING).await?.with_timeout(limit);
        let options = CreateImageOptions {
            from_image: Some(full.clone()),
            ..Default::default()
        };
        let pulling = async {
            let mut progress = std::pin::pin!(docker.create_image(Some(options), None, None));
            while let Some(step) = progress.next().await {
                let step = step.map_err(|error| EngineError::from_client(DOING, error))?;
                say_progress(&step, log)?;
            }
            Ok(())
        };
        tokio::select! {
            done = tokio::time::timeout(limit, pulling) => done.map_err(|_| EngineError::Timeout { doing: DOING })??,
            () = cancel.cancelled() => {
                return Err(EngineError::Conflict { doing: DOING, message: "cancelled".to_owned() });
            }
        }
        self.image(&full)
            .await?
            .ok_or_else(|| EngineError::NotFound {
                doing: DOING,
                message: format!("{full} was pulled but is not there"),
            })
    }
}

/// One line for each layer that begins or ends; the counting between them is left out.
fn say_progress(step: &CreateImageInfo, log: &LogSink) -> Result<(), EngineError> {
    if let Some(message) = step
        .error_detail
        .as_ref()
        .and_then(|error| error.message.as_deref())
    {
        return Err(EngineError::from_engine("pulling an image", 0, message));
    }
    let counted = step
        .progress_detail
        .as_ref()
        .is_some_and(|detail| detail.total.is_some());
    if let (false, Some(status)) = (counted, step.status.as_deref()) {
        match step.id.as_deref() {
            Some(id) => log.system(format!("{}: {}", shown(id), shown(status))),
            None => log.system(shown(status)),
        }
    }
    Ok(())
}

fn read_image(image: ImageInspect) -> ImageInfo {
    let config = image.config.unwrap_or_default();
    let has_check =
        |test: &Vec<String>| !matches!(test.first().map(String::as_str), None | Some("NONE" | ""));
    let mut exposed: Vec<u16> = config
        .exposed_ports
        .unwrap_or_default()
        .iter()
        .filter_map(|port| tcp_port(port))
        .collect();
    exposed.sort_unstable();
    ImageInfo {
        id: image.id.unwrap_or_default(),
        healthcheck: config
            .healthcheck
            .and_then(|check| check.test)
            .as_ref()
            .is_some_and(has_check),
        exposed,
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        size: image
            .size
            .and_then(|size| size.try_into().ok())
            .unwrap_or(0),
        digests: image.repo_digests.unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
        is_ours: config
            .labels
            .is_some_and(|own| own.contains_key(labels::DEPLOYMENT)),
    }
}

/// `8080/tcp` or `8080`.
fn tcp_port(text: &str) -> Option<u16> {
    text.strip_suffix("/tcp").unwrap_or(text).parse().ok()
}
