//! What an operator sets for the orchestrator. Read and checked by the command line; here they are values.

use shared::secret::SecretString;
use shared::source::{GitScheme, GitUrl, GitUrlError};

/// What an operator sets for the orchestrator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `postgres://…` for a fleet, `sqlite://<path>` for one process.
    pub database_url: SecretString,
    /// Git schemes allowed beside https, http and ssh. Only `file` is not always allowed.
    pub allow_git_schemes: Vec<GitScheme>,
    /// Names and networks that Git may be asked at although the outgoing guard would refuse them,
    /// such as `localhost` or `127.0.0.0/8`.
    pub allow_hosts: Vec<String>,
}

impl Settings {
    /// Settings with everything but the database at its default.
    #[must_use]
    pub fn new(database_url: SecretString) -> Self {
        Self { database_url, allow_git_schemes: Vec::new(), allow_hosts: Vec::new() }
    }

    /// Which Git URLs commands accept.
    #[must_use]
    pub fn git_policy(&self) -> GitPolicy {
        GitPolicy { file_allowed: self.allow_git_schemes.contains(&GitScheme::File) }
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
