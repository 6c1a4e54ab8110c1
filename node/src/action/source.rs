//! The first half of the deployment action: from a source to images that the engine has.

use super::Action;
use super::containers::Images;
use crate::journal::{DeploymentRecord, Draft};
use crate::runtime::{BuildJob, FetchJob, ImageFacts, Resolved, RuntimeError, StepError, Tree};
use crate::state_dir::WorkDir;
use shared::message::{DeployWork, ReportFacts};
use shared::source::Source;
use shared::spec::{ImageSpec, ServiceSpec};
use shared::status::FailureReason;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Gets the source and says what is worth saying of it.
pub(super) async fn fetch(action: &Action, work: &DeployWork) -> Result<Box<dyn Tree>, StepError> {
    remember_repository(action, &work.source).await?;
    let arrival = action.entry.arrival;
    let found_before = action.core.journal.read(|state| state.version_of(arrival));
    let (source, commit) =
        found_before.unwrap_or_else(|| (work.source.clone(), work.commit.clone()));
    if let Source::Image(image) = &source {
        // A Git fetch says so itself, with the ref.
        action.log.system(format!("pulling {}", image.image));
    }
    let found = OnceLock::new();
    let job = FetchJob {
        source: &source,
        commit: commit.as_ref(),
        found: &found,
        log: &action.log,
        cancel: &action.cancel,
    };
    let fetched = action.core.runtime.fetch(job).await;
    let resolved = fetched.as_ref().ok().map(|tree| tree.resolved());
    // The next step is written after it, so that nothing told of this version outlives it.
    let commit = resolved.and_then(|it| it.commit.as_ref()).or(found.get());
    let digest = resolved.and_then(|it| it.image_digest.as_ref());
    let version_found = |draft: &mut Draft<'_>| draft.version_found(arrival, commit, digest);
    action.core.journal.change_soon(version_found)?;
    let tree = fetched?;
    let resolved = tree.resolved();
    if let Some(commit) = &resolved.commit {
        action.log.system(format!("fetched commit {commit}"));
    }
    for warning in &resolved.warnings {
        action.log.system(format!("warning: {warning}"));
    }
    Ok(tree)
}

/// Before anything is kept of a repository, the journal knows for whom.
async fn remember_repository(action: &Action, source: &Source) -> Result<(), StepError> {
    let url = match source {
        Source::GitApp(git) => Some(git.url.clone()),
        Source::Image(_) => None,
    };
    if action
        .record()
        .is_some_and(|record| record.repository == url)
    {
        return Ok(());
    }
    let request = action.request();
    action
        .core
        .journal
        .change(|draft| {
            let known = draft
                .state()
                .deployments
                .get(&request.deployment_id)
                .cloned();
            let record = known.unwrap_or_else(|| {
                DeploymentRecord::new(request.deployment_id, request.deployment_name.clone())
            });
            draft.deployment_put(DeploymentRecord {
                repository: url,
                ..record
            });
        })
        .await?;
    Ok(())
}

/// What is known once the source is there.
pub(super) fn source_facts(resolved: &Resolved) -> ReportFacts {
    ReportFacts {
        commit: resolved.commit.clone(),
        image_digest: resolved.image_digest.clone(),
        content_hash: Some(resolved.content_hash.clone()),
        spec: Some(Box::new(resolved.spec.clone())),
        ..ReportFacts::default()
    }
}

/// The name of the image that is to be built, when one is.
pub(super) fn built_image<'a>(action: &'a Action, resolved: &Resolved) -> Option<&'a str> {
    let builds = |service: &ServiceSpec| matches!(service.image, ImageSpec::Build(_));
    let name = || crate::docker::image_tag(action.request().deployment_id, &resolved.content_hash);
    let is_built = resolved.spec.services.iter().any(builds);
    is_built.then(|| action.image.get_or_init(name).as_str())
}

/// Has the image of every service: built unless the same content was built before, or pulled.
pub(super) async fn build(
    action: &Action,
    tree: Box<dyn Tree>,
    resolved: &Resolved,
) -> Result<Images, StepError> {
    let mut images: Images = BTreeMap::new();
    let mut tree = Some(tree);
    let mut built: Option<ImageFacts> = None;
    for service in &resolved.spec.services {
        let image = match &service.image {
            ImageSpec::Pull { image } => {
                action
                    .core
                    .runtime
                    .pull(image, &action.log, &action.cancel)
                    .await?
            }
            ImageSpec::Build(_) => match (&built, tree.take()) {
                (Some(image), _) => image.clone(),
                (None, Some(tree)) => {
                    let image = build_tree(action, tree, &resolved.content_hash).await?;
                    built.insert(image).clone()
                }
                (None, None) => {
                    return Err(StepError::failed(
                        FailureReason::BuildFailed,
                        "the source has nothing to build",
                    ));
                }
            },
        };
        images.insert(service.name.clone(), image);
    }
    Ok(images)
}

async fn build_tree(
    action: &Action,
    tree: Box<dyn Tree>,
    content_hash: &str,
) -> Result<ImageFacts, StepError> {
    let deployment_id = action.request().deployment_id;
    let tag = crate::docker::image_tag(deployment_id, content_hash);
    let known = action
        .core
        .runtime
        .image(&tag)
        .await
        .map_err(RuntimeError::while_starting)?;
    if let Some(image) = known {
        action.log.system(format!("already built: {tag}"));
        return Ok(image);
    }
    let directory = work_dir(action)?;
    let job = BuildJob {
        deployment_id,
        attempt: action.attempt(),
        tag: &tag,
        directory: directory.path(),
        log: &action.log,
        cancel: &action.cancel,
    };
    let image = tree.build(job).await?;
    shared::fail_point!("node::action::after_build_before_journal");
    action.log.system(format!("built {tag}"));
    Ok(image)
}

fn work_dir(action: &Action) -> Result<WorkDir, StepError> {
    let name = format!(
        "{}-{}",
        action.request().revision_id,
        action.request().epoch
    );
    let refused = |error| {
        StepError::failed(
            FailureReason::BuildFailed,
            format!("the node cannot write to its state directory: {error}"),
        )
    };
    action.core.state_dir.work_dir(&name).map_err(refused)
}
