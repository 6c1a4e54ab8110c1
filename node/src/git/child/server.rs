//! One server: the way to it, who we are to it, and what it says.

use super::known_hosts;
use super::meter::Meter;
use super::network::{Network, Pipe, PipeKind};
use super::refs::Head;
use crate::git::error::{FetchError, plain};
use git2::{
    Cred, CredentialType, Direction, ProxyOptions, Remote, RemoteCallbacks, RemoteConnection,
    Repository, RepositoryInitOptions,
};
use shared::git::{FetchPolicy, SshSettings};
use shared::source::{GitScheme, GitUrl};
use std::path::Path;
use std::sync::Arc;

/// A server and the way to it.
pub(super) struct Server<'a> {
    url: &'a GitUrl,
    ssh: &'a SshSettings,
    meter: &'a Arc<Meter>,
    /// What libgit2 is given: for SSH and plain HTTP the pipe's address in place of the host's.
    pub(super) address: String,
    proxy: Option<String>,
    _pipe: Option<Pipe>,
}

impl<'a> Server<'a> {
    /// Resolves and vets the server's host and opens a pipe to it; nothing is sent yet. The network
    /// is only asked for when there is one to cross.
    pub(super) fn reach<'n>(
        url: &'a GitUrl,
        policy: &'a FetchPolicy,
        meter: &'a Arc<Meter>,
        network: impl FnOnce() -> Result<&'n Network, FetchError>,
    ) -> Result<Self, FetchError> {
        let mut server = Self {
            url,
            ssh: &policy.ssh,
            meter,
            address: url.as_str().to_owned(),
            proxy: None,
            _pipe: None,
        };
        let Some((host, port)) = url.host_and_port() else {
            return Ok(server);
        };
        match url.scheme() {
            GitScheme::Ssh => {
                let pipe = network()?.pipe(host, port, PipeKind::Relay)?;
                known_hosts::prepare(&policy.ssh.known_hosts, host, port, pipe.port)?;
                server.address = by_pipe(url, &pipe)?;
                server._pipe = Some(pipe);
            }
            // libgit2 1.9 has a proxy connect to `https` servers, and goes to `http` servers itself.
            GitScheme::Http => {
                let pipe = network()?.pipe(host, port, PipeKind::Http)?;
                server.address = by_pipe(url, &pipe)?;
                server._pipe = Some(pipe);
            }
            GitScheme::Https => {
                let pipe = network()?.pipe(host, port, PipeKind::Tunnel)?;
                server.proxy = Some(format!("http://127.0.0.1:{}", pipe.port));
                server._pipe = Some(pipe);
            }
            GitScheme::File => {}
        }
        Ok(server)
    }

    /// Whether it is a directory of this machine.
    pub(super) fn is_local(&self) -> bool {
        self.url.scheme() == GitScheme::File
    }

    /// Connects and reads which refs it has.
    pub(super) fn connect<'r, 'c>(
        &self,
        remote: &'c mut Remote<'r>,
    ) -> Result<(RemoteConnection<'r, 'c, 'a>, Vec<Head>), git2::Error> {
        let connection =
            remote.connect_auth(Direction::Fetch, Some(self.callbacks()), Some(self.proxy()))?;
        let heads = connection.list()?.iter().map(Head::new).collect();
        Ok((connection, heads))
    }

    pub(super) fn proxy(&self) -> ProxyOptions<'a> {
        let mut options = ProxyOptions::new();
        if let Some(proxy) = &self.proxy {
            options.url(proxy);
        }
        options
    }

    pub(super) fn callbacks(&self) -> RemoteCallbacks<'a> {
        let meter = self.meter;
        let counted_by_pipe = self.url.host_and_port().is_some();
        let mut counted = 0;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |progress| {
            meter.objects(
                progress.received_objects() as u64,
                progress.total_objects() as u64,
            );
            let bytes = progress.received_bytes() as u64;
            if !counted_by_pipe {
                meter.receive(bytes.saturating_sub(counted));
                counted = bytes;
            }
            !meter.is_over()
        });
        callbacks.sideband_progress(move |words| {
            meter.hear(words);
            !meter.is_over()
        });
        let scheme = self.url.scheme();
        let ssh = self.ssh;
        let mut asked = false;
        callbacks.credentials(move |_, user, kinds| {
            let user = user.unwrap_or("git");
            if scheme != GitScheme::Ssh {
                return Err(git2::Error::from_str(
                    "the server asks for a password: the repository does not exist or is private",
                ));
            }
            if kinds.contains(CredentialType::USERNAME) {
                return Cred::username(user);
            }
            // A server that refuses a key asks again, for ever.
            if std::mem::replace(&mut asked, true) {
                return Err(git2::Error::from_str(
                    "the server does not accept the node's SSH key",
                ));
            }
            key(ssh, user)
        });
        callbacks
    }

    /// What libgit2 says, for the user, with the server's last words. `doing` as in "cannot fetch".
    pub(super) fn explain(&self, doing: &str, error: &git2::Error) -> FetchError {
        let said = error.message();
        if said.contains("out of memory") {
            return FetchError::too_large("the repository takes more memory than a fetch may use");
        }
        let meaning = match said {
            _ if said.contains("status code: 404") => {
                ": the server has no such repository, or it is private"
            }
            _ if said.contains("status code: 401") || said.contains("status code: 403") => {
                ": the repository is private"
            }
            _ => "",
        };
        let words = plain(&self.meter.take_words());
        let words = if words.is_empty() {
            words
        } else {
            format!(" (the server says: {words})")
        };
        FetchError::failed(format!(
            "cannot {doing} {}: {said}{meaning}{words}",
            self.url
        ))
    }
}

/// The URL with the pipe in place of its host.
fn by_pipe(url: &GitUrl, pipe: &Pipe) -> Result<String, FetchError> {
    let mut address = url.as_url().clone();
    if address.set_host(Some("127.0.0.1")).is_err() || address.set_port(Some(pipe.port)).is_err() {
        return Err(FetchError::failed(format!(
            "`{url}` is not the address of a server"
        )));
    }
    Ok(address.into())
}

/// What the pipe saw, which is the cause of what libgit2 saw.
pub(super) fn cause(meter: &Meter) -> Option<FetchError> {
    if meter.is_over() {
        return Some(FetchError::too_large(format!(
            "the server sent more than {} bytes",
            meter.limit()
        )));
    }
    meter.take_trouble().map(FetchError::failed)
}

/// A bare repository for asking servers from.
pub(super) fn init(path: &Path) -> Result<Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    options
        .bare(true)
        .mkpath(true)
        .no_reinit(true)
        .external_template(false);
    let repo = Repository::init_opts(path, &options)?;
    // Also the first request of a connection, for which libgit2 takes no option, is not led elsewhere.
    repo.config()?.set_str("http.followRedirects", "false")?;
    Ok(repo)
}

fn key(ssh: &SshSettings, user: &str) -> Result<Cred, git2::Error> {
    match (&ssh.key, &ssh.agent) {
        (Some(key), _) => Cred::ssh_key(user, None, key, None),
        (None, Some(_)) => Cred::ssh_key_from_agent(user),
        (None, None) => Err(git2::Error::from_str(
            "the server asks for an SSH key and the node has none: give it one by --ssh-key",
        )),
    }
}
