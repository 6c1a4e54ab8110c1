//! Where a deployment's versions come from.

use super::int;
use async_graphql::{SimpleObject, Union};
use chrono::{DateTime, Utc};
use orchestrator::view::DeploymentView;

/// Where a deployment's versions come from. More kinds will follow: ask for `__typename`.
#[derive(Union)]
pub(crate) enum Source {
    /// A Git repository.
    Git(GitSource),
    /// An image of a registry.
    Image(ImageSource),
}

/// A Git repository with a Config.toml.
#[derive(SimpleObject)]
pub(crate) struct GitSource {
    /// Its address.
    url: String,
    /// The branch, tag or commit; the server's default branch when absent.
    #[graphql(name = "ref")]
    git_ref: Option<String>,
    /// The folder that is deployed; the root when absent.
    subdir: Option<String>,
    /// How often the ref is looked at for a new commit, in seconds; 0 means never.
    poll_seconds: i32,
}

/// An image of a registry.
#[derive(SimpleObject)]
pub(crate) struct ImageSource {
    /// The reference, such as `nginx:1.27`.
    #[graphql(name = "ref")]
    image: String,
    /// The port that it listens on in its container.
    port: Option<i32>,
}

impl From<&shared::source::Source> for Source {
    fn from(source: &shared::source::Source) -> Self {
        match source {
            shared::source::Source::GitApp(git) => Self::Git(GitSource {
                url: git.url.to_string(),
                git_ref: git.git_ref.as_ref().map(ToString::to_string),
                subdir: git.subdir.as_ref().map(ToString::to_string),
                poll_seconds: int(git.poll_seconds),
            }),
            shared::source::Source::Image(image) => Self::Image(ImageSource {
                image: image.image.to_string(),
                port: image.port.map(i32::from),
            }),
        }
    }
}

/// How a repository is watched for new commits.
#[derive(SimpleObject)]
pub(crate) struct GitWatch {
    /// When it was last looked at.
    last_polled_at: Option<DateTime<Utc>>,
    /// When it is looked at next; none when it is not watched now.
    next_poll_at: Option<DateTime<Utc>>,
    /// The commit that the ref named at the last look.
    last_commit: Option<String>,
    /// Why the last look failed; none when it did not.
    last_error: Option<String>,
    /// How often it is looked at, in seconds, give or take a little; 0 means never.
    poll_seconds: i32,
}

impl GitWatch {
    /// Of a deployment from a repository.
    pub(super) fn of(deployment: &DeploymentView) -> Option<Self> {
        let shared::source::Source::GitApp(git) = &deployment.source else {
            return None;
        };
        let watch = deployment.git_watch.clone().unwrap_or_default();
        Some(Self {
            last_polled_at: watch.last_polled_at,
            next_poll_at: watch.next_poll_at,
            last_commit: watch.last_seen_commit,
            last_error: watch.last_poll_error,
            poll_seconds: int(git.poll_seconds),
        })
    }
}
