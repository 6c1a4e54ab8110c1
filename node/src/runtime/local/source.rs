//! Getting a source, and building what is in it.

use super::LocalRuntime;
use crate::config::BuildLimits;
use crate::docker::{self, BuildError, BuildOrder, Engine, EngineError};
use crate::git::{self, ChildProgram, FetchError, FetchOrder};
use crate::log_sink::LogSink;
use crate::runtime::{BuildJob, FetchJob, ImageFacts, Resolved, RuntimeError, StepError, Tree};
use async_trait::async_trait;
use shared::guard::GuardError;
use shared::name::{NodeName, ServiceName};
use shared::source::{GitSource, ImageDigest, ImageRef, ImageSource};
use shared::spec::{About, DeploymentSpec, HealthSpec, ImageSpec, Resources, ServiceSpec};
use shared::status::{FailureReason, Method};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the pull of an image may take.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What every fetch has in common.
pub(super) struct Fetching {
    pub(super) mirrors: PathBuf,
    pub(super) limits: git::FetchLimits,
    pub(super) policy: git::FetchPolicy,
    pub(super) builtin: git::BuiltinImages,
    pub(super) child: ChildProgram,
}

impl LocalRuntime {
    pub(super) async fn fetch_git(
        &self,
        git: &GitSource,
        job: FetchJob<'_>,
    ) -> Result<Box<dyn Tree>, StepError> {
        let order = FetchOrder {
            url: git.url.clone(),
            git_ref: git.git_ref.clone(),
            commit: job.commit.cloned(),
            subdir: git.subdir.clone(),
            mirror_dir: self.fetching.mirrors.clone(),
            limits: self.fetching.limits,
            policy: self.fetching.policy.clone(),
            builtin: self.fetching.builtin.clone(),
            child: self.fetching.child.clone(),
        };
        let fetched = Box::pin(git::fetch(order, job.found, job.log, job.cancel))
            .await
            .map_err(fetch_failed)?;
        let resolved = Resolved {
            commit: Some(fetched.commit.clone()),
            image_digest: None,
            content_hash: fetched.content_hash.clone(),
            spec: fetched.spec.clone(),
            warnings: fetched.warnings.clone(),
        };
        Ok(Box::new(GitTree {
            resolved,
            fetched,
            engine: self.engine.clone(),
            node: self.node.clone(),
            limits: self.build_limits,
        }))
    }

    pub(super) async fn fetch_image(
        &self,
        source: &ImageSource,
        job: FetchJob<'_>,
    ) -> Result<Box<dyn Tree>, StepError> {
        let image = self.pulled(&source.image, job.log, job.cancel).await?;
        let digest = digest(&image, &source.image);
        // Its tag may lead elsewhere from now on.
        let pinned = digest
            .as_ref()
            .map_or_else(|| source.image.clone(), |digest| source.image.at(digest));
        let ports = source
            .port
            .map_or_else(|| image.exposed.clone(), |port| vec![port]);
        let resolved = Resolved {
            commit: None,
            image_digest: digest,
            content_hash: image.id.trim_start_matches("sha256:").to_owned(),
            spec: spec_of_image(&pinned, ports),
            warnings: Vec::new(),
        };
        Ok(Box::new(ImageTree { resolved }))
    }

    /// The image that the engine has under this name, or by the id that is its digest. What was built
    /// for a deployment is nobody else's to name.
    pub(super) async fn known_image(
        &self,
        image: &ImageRef,
    ) -> Result<Option<docker::ImageInfo>, EngineError> {
        let named = self.engine.image(image.as_str()).await?;
        let known = match (named, image.digest()) {
            (None, Some(digest)) => self.engine.image(digest.as_str()).await?,
            (named, _) => named,
        };
        Ok(known.filter(|image| !image.is_ours))
    }

    /// The engine connects by itself, to any address of the registry. A name that cannot be looked up
    /// here is left to it: it may know a mirror or a proxy.
    async fn vet_registry(&self, image: &ImageRef) -> Result<(), StepError> {
        let (host, port) = image.registry();
        let guard = &self.fetching.policy.guard;
        match guard.resolve_for_another(host, port).await {
            Ok(()) | Err(GuardError::Unknown { .. }) => Ok(()),
            Err(refused @ GuardError::Refused { .. }) => {
                let detail = format!("the image {image} is not pulled: {refused}");
                Err(StepError::failed(FailureReason::FetchFailed, detail))
            }
        }
    }

    pub(super) async fn pulled(
        &self,
        image: &ImageRef,
        log: &LogSink,
        cancel: &CancellationToken,
    ) -> Result<docker::ImageInfo, StepError> {
        if image.digest().is_some()
            && let Ok(Some(known)) = self.known_image(image).await
        {
            return Ok(known);
        }
        self.vet_registry(image).await?;
        let pulled = self.engine.image_pull(image, PULL_LIMIT, log, cancel).await;
        let error = match pulled {
            Ok(image) => return Ok(image),
            Err(_) if cancel.is_cancelled() => return Err(StepError::Interrupted),
            Err(error @ EngineError::Unavailable { .. }) => {
                return Err(StepError::EngineAway(error.to_string()));
            }
            Err(error) => error,
        };
        // A registry that cannot be reached is no obstacle to what is here already.
        match self.known_image(image).await {
            Ok(Some(known)) => {
                log.system(format!("{error}; using the image that the engine has"));
                Ok(known)
            }
            Ok(None) => Err(StepError::failed(
                FailureReason::FetchFailed,
                error.to_string(),
            )),
            Err(error) => Err(RuntimeError::from(error).while_starting()),
        }
    }
}

/// Which image that is: its digest in the registry that it was asked of, or the engine's own id where
/// no registry is known to have it.
fn digest(image: &docker::ImageInfo, asked: &ImageRef) -> Option<ImageDigest> {
    // The engine leaves out what a name has by default.
    fn familiar(repository: &str) -> &str {
        let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
        name.strip_prefix("library/").unwrap_or(name)
    }
    let known = image.digests.iter().filter_map(|it| it.split_once('@'));
    let found = known
        .filter(|(repository, _)| familiar(repository) == familiar(asked.repository()))
        .map(|(_, digest)| digest)
        .next();
    ImageDigest::parse(found.unwrap_or(&image.id)).ok()
}

/// A repository that was fetched.
struct GitTree {
    resolved: Resolved,
    fetched: git::Fetched,
    engine: Engine,
    node: NodeName,
    limits: BuildLimits,
}

#[async_trait]
impl Tree for GitTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, job: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        let context = self
            .fetched
            .write_context(&job.directory.join("context.tar"))
            .await
            .map_err(fetch_failed)?;
        let order = BuildOrder {
            deployment: job.deployment_id,
            node: self.node,
            context_tar: context.tar,
            dockerfile: context.dockerfile,
            tag: job.tag.to_owned(),
            time_limit: self.limits.time,
            memory_limit: self.limits.memory,
        };
        match Box::pin(self.engine.build(&order, job.log, job.cancel)).await {
            Ok(image) => Ok(super::image_facts(image)),
            Err(BuildError::Cancelled) => Err(StepError::Interrupted),
            Err(BuildError::Failed { detail }) => match self.engine.ping().await {
                Ok(()) => Err(StepError::failed(FailureReason::BuildFailed, detail)),
                // An engine that is being stopped fails its builds in many words, all about itself.
                Err(away) => Err(StepError::EngineAway(format!("{away}, after {detail}"))),
            },
            Err(error @ BuildError::Timeout { .. }) => Err(StepError::failed(
                FailureReason::BuildTimeout,
                error.to_string(),
            )),
            Err(BuildError::Engine(error)) if error.is_transient() => {
                Err(StepError::EngineAway(error.to_string()))
            }
            Err(BuildError::Engine(error)) => Err(StepError::failed(
                FailureReason::BuildFailed,
                error.to_string(),
            )),
        }
    }
}

/// An image that was pulled: there is nothing to build.
struct ImageTree {
    resolved: Resolved,
}

#[async_trait]
impl Tree for ImageTree {
    fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    async fn build(self: Box<Self>, _: BuildJob<'_>) -> Result<ImageFacts, StepError> {
        Err(StepError::failed(
            FailureReason::BuildFailed,
            "an image has nothing to build",
        ))
    }
}

fn spec_of_image(image: &ImageRef, ports: Vec<u16>) -> DeploymentSpec {
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Pull {
            image: image.clone(),
        },
        command: None,
        env: BTreeMap::new(),
        ports,
        volumes: Vec::new(),
        health: HealthSpec::default(),
        resources: Resources::default(),
        domain: None,
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: About::default(),
    }
}

fn fetch_failed(error: FetchError) -> StepError {
    match error {
        FetchError::Cancelled => StepError::Interrupted,
        other => StepError::failed(other.reason(), other.to_string()),
    }
}
