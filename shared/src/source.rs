//! Where a deployment's versions come from, as parsed types: a URL, ref, path or image reference
//! that exists as one of these has passed its grammar and cannot be taken for an option.

mod git_url;
mod text;

pub use git_url::{GitScheme, GitUrl, GitUrlError};
pub use text::{CommitId, GitRef, ImageDigest, ImageRef, RepoPath, SourceTextError};

use serde::{Deserialize, Serialize};

/// Where versions come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// A Git repository with a Config.toml.
    GitApp(GitSource),
    /// An image of a registry.
    Image(ImageSource),
}

/// A Git repository and the part of it that is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// The repository.
    pub url: GitUrl,
    /// The branch, tag or commit; the server's default branch when absent.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<GitRef>,
    /// The folder that holds Config.toml and is the build context; the root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdir: Option<RepoPath>,
    /// How often the ref is looked at for a new commit, in seconds; 0 means never.
    #[serde(default = "default_poll_seconds")]
    pub poll_seconds: u32,
}

/// How often a Git ref is looked at when nothing else is asked for, in seconds.
pub const DEFAULT_POLL_SECONDS: u32 = 60;

fn default_poll_seconds() -> u32 {
    DEFAULT_POLL_SECONDS
}

/// An image of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The image.
    #[serde(rename = "ref")]
    pub image: ImageRef,
    /// The port that it listens on in its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Source {
    /// Of this very version and no other: the commit of a Git source, which goes beside it, or the
    /// digest of an image, which goes into its reference.
    ///
    /// # Errors
    /// [`SourceTextError`] when the version is none of such a source.
    pub fn pinned(mut self, version: &str) -> Result<(Self, Option<CommitId>), SourceTextError> {
        let commit = match &mut self {
            Self::GitApp(_) => Some(CommitId::parse(version)?),
            Self::Image(source) => {
                source.image = source.image.at(&ImageDigest::of_version(version)?);
                None
            }
        };
        Ok((self, commit))
    }

    /// One line for people: the URL and ref, or the image.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::GitApp(git) => match &git.git_ref {
                Some(git_ref) => format!("{}#{git_ref}", git.url),
                None => git.url.to_string(),
            },
            Self::Image(image) => image.image.to_string(),
        }
    }
}
