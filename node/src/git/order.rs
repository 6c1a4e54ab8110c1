//! What is asked of a fetch, and how far it may go.

pub use shared::git::{FetchPolicy, SshSettings};

use serde::{Deserialize, Serialize};
use shared::source::{CommitId, GitRef, GitUrl, ImageRef, RepoPath};
use shared::spec::Lang;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// One fetch, complete in itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FetchOrder {
    /// The repository.
    pub url: GitUrl,
    /// The branch, tag, full ref or commit; the default branch when absent.
    pub git_ref: Option<GitRef>,
    /// This very commit; `git_ref` is then only where to look for it when the server does not give
    /// out commits by their id.
    pub commit: Option<CommitId>,
    /// The folder that holds the configuration and is the build context; the root when absent.
    pub subdir: Option<RepoPath>,
    /// Where mirrors of repositories are kept, one directory each.
    pub mirror_dir: PathBuf,
    /// How far it may go.
    pub limits: FetchLimits,
    /// Where it may go.
    pub policy: FetchPolicy,
    /// The base images of built-in Dockerfiles.
    pub builtin: BuiltinImages,
    /// The program that runs as the child.
    #[serde(skip, default = "ChildProgram::this_binary")]
    pub child: ChildProgram,
}

/// How far a fetch may go before it fails. Counted before anything of the tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLimits {
    /// The time for a fetch, and once more for writing the context.
    pub wall: Duration,
    /// The time in which at least something must move.
    pub stall: Duration,
    /// Bytes received from servers, submodules included.
    pub received_bytes: u64,
    /// Bytes of all files of the build context together.
    pub tree_bytes: u64,
    /// Bytes of one file. A file is held in memory while it is written.
    pub file_bytes: u64,
    /// Files, links and folders of the build context.
    pub files: u64,
    /// Folders within folders.
    pub depth: u32,
    /// Repositories within the repository.
    pub submodules: usize,
    /// Submodules of submodules: how deep.
    pub submodule_depth: u32,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            received_bytes: 1 << 30,
            tree_bytes: 2 << 30,
            file_bytes: 100 << 20,
            files: 200_000,
            depth: 64,
            submodules: 20,
            submodule_depth: 3,
        }
    }
}

/// The base images of built-in Dockerfiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltinImages {
    /// For `lang = "python3"`: has `python3` and `pip`.
    pub python3: ImageRef,
    /// For `lang = "node"`: has `node` and `npm`.
    pub node: ImageRef,
    /// For `lang = "static"`: has busybox's `httpd`.
    pub static_files: ImageRef,
}

impl BuiltinImages {
    /// The base image of a language.
    #[must_use]
    pub const fn of(&self, lang: Lang) -> &ImageRef {
        match lang {
            Lang::Python3 => &self.python3,
            Lang::Node => &self.node,
            Lang::Static => &self.static_files,
        }
    }
}

impl Default for BuiltinImages {
    #[expect(
        clippy::expect_used,
        reason = "three literals, read by the tests of this module"
    )]
    fn default() -> Self {
        let image = |text| ImageRef::parse(text).expect("a literal within the grammar");
        Self {
            python3: image("python:3-slim"),
            node: image("node:20-slim"),
            static_files: image("busybox"),
        }
    }
}

/// The program that runs as the child: it must end up in [`super::child_main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProgram {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl ChildProgram {
    /// The very binary that runs now with its hidden subcommand `internal-fetch`. Named by the
    /// running image, not by its path, so that parent and child are the same release also after
    /// the file was replaced.
    #[must_use]
    pub fn this_binary() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            args: vec![OsString::from("internal-fetch")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_images_are_image_references() {
        assert_eq!(
            BuiltinImages::default().of(Lang::Static).as_str(),
            "busybox"
        );
    }
}
