//! What an operator sets for the orchestrator. Read and checked by the command line; here they are values.

use shared::git::FetchPolicy;
use shared::secret::SecretString;
use shared::source::{GitUrl, GitUrlError};
use std::path::PathBuf;

/// What an operator sets for the orchestrator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `postgres://…` for a fleet, `sqlite://<path>` for one process.
    pub database_url: SecretString,
    /// Which Git URLs are accepted and which servers may be asked for new commits: the same that
    /// the nodes may fetch from, or a deployment would be watched that cannot be fetched.
    pub fetch_policy: FetchPolicy,
    /// This program, for its hidden subcommand `internal-ls-remote`.
    pub child_executable: PathBuf,
}

impl Settings {
    /// Settings with everything but the database at its default.
    #[must_use]
    pub fn new(database_url: SecretString) -> Self {
        Self {
            database_url,
            fetch_policy: FetchPolicy::default(),
            // Named by the running image, so that children are the same release also after the file
            // was replaced.
            child_executable: PathBuf::from("/proc/self/exe"),
        }
    }

    /// Which Git URLs commands accept.
    #[must_use]
    pub fn git_policy(&self) -> GitPolicy {
        GitPolicy {
            file_allowed: self.fetch_policy.file_allowed,
        }
    }
}

/// Which Git URLs commands accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct GitPolicy {
    /// Whether `file://` is allowed, for local trials.
    pub file_allowed: bool,
}

impl GitPolicy {
    /// Reads a URL and refuses a scheme that is not allowed here.
    ///
    /// # Errors
    /// [`GitUrlError`], which says what would be right.
    pub fn parse(self, url: &str) -> Result<GitUrl, GitUrlError> {
        let url = GitUrl::parse(url)?;
        url.check_scheme(self.file_allowed)?;
        Ok(url)
    }
}
