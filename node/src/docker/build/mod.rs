//! Building an image from a fetched tree.
//!
//! BuildKit does it, through the Engine's API: it is some 200 ms quicker than the classic builder
//! and knows `RUN --mount`. Two things about it shape this module:
//!
//! - BuildKit ignores the API's memory field. Where the node can write the control group that the
//!   engine keeps BuildKit's processes in, the limit is set there ([`memory`]); where it cannot,
//!   a build with a memory limit goes to the classic builder, which obeys the field.
//! - A `# syntax=` line makes BuildKit fetch and run a program from a registry as the builder. That
//!   never happens here ([`dockerfile`]).
//!
//! The engine ends a build when its client goes away, so cancelling is dropping the stream.

mod dockerfile;
mod leftovers;
mod memory;
mod progress;

pub(super) use memory::BuilderMemory;

use super::client::{Engine, QUICK};
use super::error::{EngineError, shown};
use super::image::ImageInfo;
use super::labels;
use crate::log_sink::LogSink;
use bollard::Docker;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures::StreamExt;
use futures::stream::BoxStream;
use memory::MemoryLimit;
use progress::Progress;
use shared::id::DeploymentId;
use shared::name::NodeName;
use shared::spec::ByteSize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

const DOING: &str = "building an image";

/// An image to be built.
#[derive(Clone, Debug)]
pub struct BuildOrder {
    /// The deployment that it is for.
    pub deployment: DeploymentId,
    /// The node that builds it.
    pub node: NodeName,
    /// The build context: an uncompressed tar in ustar or GNU format, which the node made and may
    /// change.
    pub context_tar: PathBuf,
    /// The Dockerfile's path inside the tar.
    pub dockerfile: String,
    /// The tag that the image gets, from [`super::image_tag`].
    pub tag: String,
    /// How long it may take.
    pub time_limit: Duration,
    /// How much memory the build's processes may use.
    pub memory_limit: Option<ByteSize>,
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A step failed, or the Dockerfile is wrong.
    #[error("{detail}")]
    Failed {
        /// The failing step, its last lines and the builder's words.
        detail: String,
    },
    /// It took longer than it may.
    #[error("the build took longer than {} s, during: {step}", limit.as_secs())]
    Timeout {
        /// The limit.
        limit: Duration,
        /// What was being done when the time was over.
        step: String,
    },
    /// It was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// The engine could not do it, whatever the repository says.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Builds an image and says line by line what is done. No image, container or process of the
    /// build is left behind when it fails, except what the builder caches to build faster.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(
        &self,
        order: &BuildOrder,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageInfo, BuildError> {
        dockerfile::disarm(order, log).await?;
        let memory = self.memory_limit(order, log).await?;
        self.build_with(order, &memory, log, cancel).await
    }

    async fn build_with(
        &self,
        order: &BuildOrder,
        memory: &MemoryLimit,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<ImageInfo, BuildError> {
        let docker = self
            .docker(DOING)
            .await?
            .with_timeout(order.time_limit + QUICK);
        let docker = with_memory_fields(docker, memory);
        let mut progress = Progress::new(log.clone());
        let begun = chrono::Utc::now();
        let built = {
            let steps = start(&docker, order, memory).await?;
            let steps = tokio::time::timeout(order.time_limit, follow(steps, &mut progress));
            cancel.run_until_cancelled(steps).await
        };
        // Also after a success: the stages before the last are no part of the image.
        self.remove_made_since(begun, progress.made_on_the_way())
            .await;
        let Some(built) = built else {
            return Err(BuildError::Cancelled);
        };
        match built {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failure(error, &progress, memory)),
            Err(_) => {
                return Err(BuildError::Timeout {
                    limit: order.time_limit,
                    step: progress.current_step(),
                });
            }
        }
        self.image(&order.tag)
            .await?
            .ok_or_else(|| BuildError::Failed {
                detail: progress.failure("the builder ended without making an image"),
            })
    }

    async fn memory_limit(
        &self,
        order: &BuildOrder,
        log: &LogSink,
    ) -> Result<MemoryLimit, EngineError> {
        let info = self.known_info().await?;
        let Some(limit) = order.memory_limit else {
            return Ok(if info.buildkit {
                MemoryLimit::None
            } else {
                MemoryLimit::Classic(None)
            });
        };
        if !info.buildkit {
            return Ok(MemoryLimit::Classic(Some(limit)));
        }
        let in_reach = self.is_local() && info.containers_reachable;
        match self
            .builder_memory()
            .limit(info.cgroup_driver, in_reach, limit)
        {
            Ok(guard) => Ok(MemoryLimit::ControlGroup(guard)),
            Err(reason) => {
                tracing::debug!(%reason, "no memory limit for BuildKit: building with the classic builder");
                log.system(
                    "building with the engine's classic builder, which keeps the memory limit",
                );
                Ok(MemoryLimit::Classic(Some(limit)))
            }
        }
    }
}

type Steps<'a> = BoxStream<'a, Result<BuildInfo, bollard::errors::Error>>;

async fn start<'a>(
    docker: &'a Docker,
    order: &BuildOrder,
    memory: &MemoryLimit,
) -> Result<Steps<'a>, BuildError> {
    let unreadable = |error: std::io::Error| BuildError::Failed {
        detail: format!("the build context could not be read: {error}"),
    };
    let context = tokio::fs::File::open(&order.context_tar)
        .await
        .map_err(unreadable)?;
    let body = bollard::body_try_stream(ReaderStream::with_capacity(context, 64 * 1024));
    Ok(docker
        .build_image(options(order, memory), None, Some(body))
        .boxed())
}

/// The classic builder's memory fields, which the client itself counts in 32 bits.
fn with_memory_fields(docker: Docker, memory: &MemoryLimit) -> Docker {
    let MemoryLimit::Classic(Some(limit)) = memory else {
        return docker;
    };
    let limit = limit.0;
    docker.with_request_modifier(move |mut request| {
        let uri = format!("{}&memory={limit}&memswap={limit}", request.uri());
        match uri.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            // Digits behind an address that was one before.
            Err(error) => tracing::warn!(%error, "the build runs without a memory limit"),
        }
        request
    })
}

async fn follow(
    mut steps: Steps<'_>,
    progress: &mut Progress,
) -> Result<(), bollard::errors::Error> {
    while let Some(step) = steps.next().await {
        progress.take(step?);
        shared::fail_point!("node::action::in_build");
    }
    progress.finish();
    Ok(())
}

fn options(order: &BuildOrder, memory: &MemoryLimit) -> BuildImageOptions {
    let classic = matches!(memory, MemoryLimit::Classic(_));
    // Cache mounts have names that anybody can choose; this keeps each deployment's apart.
    let namespace = [(
        "BUILDKIT_CACHE_MOUNT_NS".to_owned(),
        order.deployment.to_string(),
    )];
    BuildImageOptions {
        dockerfile: order.dockerfile.clone(),
        t: Some(order.tag.clone()),
        rm: true,
        forcerm: true,
        labels: Some(labels::of_deployment(order.deployment, &order.node)),
        buildargs: (!classic).then(|| HashMap::from(namespace)),
        version: if classic {
            BuilderVersion::BuilderV1
        } else {
            BuilderVersion::BuilderBuildKit
        },
        session: (!classic).then(|| uuid::Uuid::new_v4().to_string()),
        ..Default::default()
    }
}

/// What went wrong, with the step that did and its last lines.
fn failure(error: bollard::errors::Error, progress: &Progress, memory: &MemoryLimit) -> BuildError {
    match EngineError::from_client(DOING, error) {
        EngineError::Refused { message, .. }
        | EngineError::NotFound { message, .. }
        | EngineError::Conflict { message, .. }
        | EngineError::PortTaken { message, .. } => {
            let mut detail = progress.failure(&message);
            // 128 + SIGKILL: nobody else kills a build's processes.
            if let (true, Some(limit)) = (message.contains("137"), memory.bytes()) {
                detail.push_str(&format!(
                    "\n(killed: most likely for using more memory than a build may, {limit})"
                ));
            }
            BuildError::Failed {
                detail: shown(&detail),
            }
        }
        error @ (EngineError::Unavailable { .. }
        | EngineError::NoSpace { .. }
        | EngineError::Exhausted { .. }
        | EngineError::Timeout { .. }
        | EngineError::Garbled { .. }) => BuildError::Engine(error),
    }
}

#[cfg(test)]
mod tests {
    //! Against the real engine, for what cannot be chosen from outside.
    use super::*;
    use crate::docker::image_tag;

    async fn classic(
        dockerfile: &str,
        limit: Option<ByteSize>,
    ) -> (Result<ImageInfo, BuildError>, Vec<String>) {
        let context = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(context.reopen().unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(dockerfile.len() as u64);
        tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())
            .unwrap();
        tar.finish().unwrap();
        let deployment = DeploymentId::new();
        let order = BuildOrder {
            deployment,
            node: NodeName::parse("test-classic").unwrap(),
            context_tar: context.path().to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            tag: image_tag(deployment, "0123456789abcdef"),
            time_limit: Duration::from_secs(60),
            memory_limit: limit,
        };
        let engine = Engine::new(None).unwrap();
        let (log, mut lines) = LogSink::collecting();
        let built = engine
            .build_with(
                &order,
                &MemoryLimit::Classic(limit),
                &log,
                &CancellationToken::new(),
            )
            .await;
        engine
            .purge_deployment(deployment, &order.node, true)
            .await
            .unwrap();
        (built, lines.texts())
    }

    #[tokio::test]
    async fn the_classic_builder_builds_and_tells_its_steps() {
        let stamp = DeploymentId::new();
        let (built, lines) = classic(&format!("FROM busybox\nRUN echo {stamp}\n"), None).await;
        built.unwrap();
        let expected = [
            "FROM busybox".to_owned(),
            format!("RUN echo {stamp}"),
            stamp.to_string(),
        ];
        assert!(
            expected
                .iter()
                .all(|part| lines.iter().any(|line| line.ends_with(part))),
            "{lines:#?}"
        );
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("--->") || line.contains("longshore.")),
            "{lines:#?}"
        );
    }

    #[tokio::test]
    async fn the_classic_builder_leaves_no_image_of_a_build_that_failed() {
        let stamp = DeploymentId::new();
        let dockerfile = format!("FROM busybox\nRUN echo {stamp} > /stamp\nENV A=b\nRUN false\n");
        let before = dangling().await;
        let (built, lines) = classic(&dockerfile, None).await;
        assert!(built.is_err(), "{lines:#?}");
        let mut left = Vec::new();
        for image in dangling().await.difference(&before) {
            let docker = Engine::new(None).unwrap().docker(DOING).await.unwrap();
            let history = docker.image_history(image).await.unwrap();
            if history
                .iter()
                .any(|layer| layer.created_by.contains(&stamp.to_string()))
            {
                left.push(image.clone());
            }
        }
        assert!(left.is_empty(), "{left:?}: {lines:#?}");
    }

    /// The images without a name.
    async fn dangling() -> std::collections::BTreeSet<String> {
        let docker = Engine::new(None).unwrap().docker(DOING).await.unwrap();
        let options = bollard::query_parameters::ListImagesOptions {
            filters: Some(HashMap::from([(
                "dangling".to_owned(),
                vec!["true".to_owned()],
            )])),
            ..Default::default()
        };
        let images = docker.list_images(Some(options)).await.unwrap();
        images.into_iter().map(|image| image.id).collect()
    }

    #[tokio::test]
    async fn the_classic_builder_keeps_the_memory_limit() {
        // Beyond 32 bits: taken, and out of a small build's way.
        let (built, lines) = classic("FROM busybox\nRUN true\n", Some(ByteSize(6 << 30))).await;
        assert!(built.is_ok(), "{built:?}: {lines:#?}");
        let (built, lines) = classic(
            "FROM busybox\nRUN tail /dev/zero\n",
            Some(ByteSize(32 << 20)),
        )
        .await;
        let Err(BuildError::Failed { detail }) = built else {
            panic!("{built:?}: {lines:#?}")
        };
        assert!(
            detail.contains("RUN tail") && detail.contains("32M"),
            "{detail}"
        );
    }
}
