//! One server asked for one commit.

use super::Trouble;
use super::depot::Depot;
use super::known_hosts;
use super::network::{Pipe, PipeKind};
use crate::git::error::{FetchError, plain};
use crate::git::mirror;
use crate::git::order::SshSettings;
use git2::{AutotagOption, Cred, CredentialType, Direction, ErrorClass, FetchOptions, Oid, ProxyOptions, RemoteCallbacks, RemoteRedirect};
use sha2::{Digest, Sha256};
use shared::name::shown;
use shared::source::{CommitId, GitRef, GitScheme, GitUrl};

/// All of the history, as libgit2 has it; also turns a shallow mirror into a whole one.
const WHOLE: i32 = i32::MAX;

/// How far back a commit is looked for when the server does not give it out by its id.
const DEEPER: [i32; 3] = [50, 1000, WHOLE];

/// What is wanted of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// A branch, tag, full ref or commit; the default branch when absent.
    pub(super) git_ref: Option<GitRef>,
    /// This very commit.
    pub(super) commit: Option<CommitId>,
}

impl Wanted {
    /// The commit, when one was named, also as a ref.
    pub(super) fn commit_id(&self) -> Option<Oid> {
        let named = self.git_ref.as_ref().map(GitRef::as_str).filter(|text| text.len() == 40);
        self.commit.as_ref().map(CommitId::as_str).or(named).and_then(|text| Oid::from_str(text).ok())
    }
}

/// A ref that the server has.
struct Head {
    name: String,
    id: Oid,
    points_to: Option<String>,
}

/// How far to fetch, and from where.
struct Aim {
    /// The ref or commit that is asked for.
    source: String,
    /// What it stands for; a tag may have to be peeled.
    id: Oid,
}

/// Brings the wanted commit into the mirror and returns its id.
pub(super) fn obtain(depot: &Depot, url: &GitUrl, wanted: &Wanted) -> Result<Oid, Trouble> {
    let server = Server::reach(depot, url)?;
    let result = server.obtain(wanted);
    // What the pipe saw is the cause of what libgit2 saw.
    if matches!(result, Err(Trouble::Fetch(FetchError::Failed { .. }) | Trouble::Damaged(_))) {
        if depot.meter().is_over() {
            return Err(FetchError::too_large(format!("the server sent more than {} bytes", depot.meter().limit())).into());
        }
        if let Some(trouble) = depot.meter().take_trouble() {
            return Err(FetchError::failed(trouble).into());
        }
    }
    result
}

/// A server and the way to it.
struct Server<'a> {
    depot: &'a Depot,
    url: &'a GitUrl,
    /// What libgit2 is given: for SSH and plain HTTP the pipe's address in place of the host's.
    address: String,
    proxy: Option<String>,
    depth: i32,
    _pipe: Option<Pipe>,
}

impl<'a> Server<'a> {
    fn reach(depot: &'a Depot, url: &'a GitUrl) -> Result<Self, FetchError> {
        let mut server = Self { depot, url, address: url.as_str().to_owned(), proxy: None, depth: 1, _pipe: None };
        let Some((host, port)) = url.host_and_port() else {
            // libgit2 cannot fetch a part of a local repository's history.
            server.depth = 0;
            return Ok(server);
        };
        match url.scheme() {
            GitScheme::Ssh => {
                let pipe = depot.network()?.pipe(host, port, PipeKind::Relay)?;
                known_hosts::prepare(&depot.order().policy.ssh.known_hosts, host, port, pipe.port)?;
                server.address = by_pipe(url, &pipe)?;
                server._pipe = Some(pipe);
            }
            // libgit2 1.9 has a proxy connect to `https` servers, and goes to `http` servers itself.
            GitScheme::Http => {
                let pipe = depot.network()?.pipe(host, port, PipeKind::Http)?;
                server.address = by_pipe(url, &pipe)?;
                server._pipe = Some(pipe);
            }
            GitScheme::Https => {
                let pipe = depot.network()?.pipe(host, port, PipeKind::Tunnel)?;
                server.proxy = Some(format!("http://127.0.0.1:{}", pipe.port));
                server._pipe = Some(pipe);
            }
            GitScheme::File => {}
        }
        Ok(server)
    }

    fn obtain(&self, wanted: &Wanted) -> Result<Oid, Trouble> {
        match &wanted.commit {
            Some(commit) => self.obtain_commit(commit, wanted),
            None => {
                let by_id = wanted.commit_id();
                let id = self.fetch(self.depth, |heads| match (aim_at_ref(heads, wanted.git_ref.as_ref()), by_id) {
                    (Ok(aim), _) => Ok(aim),
                    (Err(_), Some(id)) => Ok(Aim { source: id.to_string(), id }),
                    (Err(error), None) => Err(error),
                })?;
                self.peel(id)
            }
        }
    }

    /// A commit by its id: as the tip of a ref if it is one, else by itself, else, where the server
    /// gives out no commits by id, by looking back from the ref.
    fn obtain_commit(&self, commit: &CommitId, wanted: &Wanted) -> Result<Oid, Trouble> {
        let id = Oid::from_str(commit.as_str())
            .map_err(|_| FetchError::failed(format!("commits of 64 digits (SHA-256) cannot be fetched: {commit}")))?;
        let direct = self.fetch(self.depth, |heads| {
            let tip = heads.iter().find(|head| head.id == id && !head.name.ends_with("^{}"));
            Ok(Aim { source: tip.map_or_else(|| id.to_string(), |head| head.name.clone()), id })
        });
        match direct {
            Ok(_) => return self.peel(id),
            Err(error @ Trouble::Damaged(_)) => return Err(error),
            // Nobody answers, or too much: asking for more will not help.
            Err(error) if self.depot.meter().is_over() || self.depot.meter().has_trouble() => return Err(error),
            Err(Trouble::Fetch(_)) => {}
        }
        self.depot.talk().log(format!("the server does not give out commit {commit} by its id: looking back from the ref"));
        for depth in DEEPER {
            let depth = if self.depth == 0 { 0 } else { depth };
            self.fetch(depth, |heads| aim_at_ref(heads, wanted.git_ref.as_ref()))?;
            if self.depot.holds(id) {
                return Ok(id);
            }
            if depth == 0 {
                break;
            }
        }
        let place = wanted.git_ref.as_ref().map_or("the default branch".to_owned(), |git_ref| format!("`{git_ref}`"));
        Err(FetchError::failed(format!("the repository has no commit {commit} in the history of {place}")).into())
    }

    /// Connects, chooses, and receives what the mirror lacks. Returns the id that was chosen.
    fn fetch(&self, depth: i32, choose: impl Fn(&[Head]) -> Result<Aim, FetchError>) -> Result<Oid, Trouble> {
        match self.fetch_once(depth, &choose) {
            Err(Trouble::Fetch(FetchError::Failed { detail })) if depth > 0 && detail.contains("doesn't support shallow") => {
                self.fetch_once(0, &choose)
            }
            result => result,
        }
    }

    fn fetch_once(&self, depth: i32, choose: &impl Fn(&[Head]) -> Result<Aim, FetchError>) -> Result<Oid, Trouble> {
        let repo = &self.depot.repo;
        let mut remote = repo.remote_anonymous(&self.address).map_err(|error| self.explain(&error))?;
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(self.callbacks()), Some(self.proxy()))
            .map_err(|error| self.explain(&error))?;
        let heads: Vec<Head> = connection
            .list()
            .map_err(|error| self.explain(&error))?
            .iter()
            .map(|head| Head {
                name: head.name().to_owned(),
                id: head.oid(),
                points_to: head.symref_target().map(str::to_owned),
            })
            .collect();
        let aim = choose(&heads)?;
        let has_it = depth <= 1 && self.peel(aim.id).is_ok_and(|commit| self.depot.holds(commit));
        if has_it {
            return Ok(aim.id);
        }
        let mut options = FetchOptions::new();
        options
            .depth(depth)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None)
            .proxy_options(self.proxy())
            .remote_callbacks(self.callbacks());
        let refspec = format!("+{}:{}", aim.source, self.kept_as(&aim.source));
        let fetched = connection.remote().fetch(&[&refspec], Some(&mut options), None);
        fetched.map_err(|error| self.explain(&error))?;
        self.depot.repo.odb().and_then(|odb| odb.refresh()).map_err(|error| Trouble::damaged(&error))?;
        Ok(aim.id)
    }

    /// The ref of the mirror that keeps what was fetched from this server's `source`. Names are
    /// hashed: a branch `a/b` may follow a branch `a`.
    fn kept_as(&self, source: &str) -> String {
        format!("refs/longshore/{}/{}", mirror::key(self.url), hex::encode(&Sha256::digest(source)[..16]))
    }

    /// The commit that a ref's id stands for: itself, or what an annotated tag is about.
    fn peel(&self, id: Oid) -> Result<Oid, Trouble> {
        let object = self.depot.repo.find_object(id, None).map_err(|error| Trouble::damaged(&error))?;
        match object.peel_to_commit() {
            Ok(commit) => Ok(commit.id()),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Err(Trouble::damaged(&error)),
            Err(_) => Err(FetchError::failed("the ref stands for a file or folder, not for a commit").into()),
        }
    }

    fn proxy(&self) -> ProxyOptions<'a> {
        let mut options = ProxyOptions::new();
        if let Some(proxy) = &self.proxy {
            options.url(proxy);
        }
        options
    }

    fn callbacks(&self) -> RemoteCallbacks<'a> {
        let meter = self.depot.meter();
        let counted_by_pipe = self.url.host_and_port().is_some();
        let mut counted = 0;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |progress| {
            meter.objects(progress.received_objects() as u64, progress.total_objects() as u64);
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
        let ssh = &self.depot.order().policy.ssh;
        let mut asked = false;
        callbacks.credentials(move |_, user, kinds| {
            let user = user.unwrap_or("git");
            if scheme != GitScheme::Ssh {
                return Err(git2::Error::from_str("the server asks for a password: the repository does not exist or is private"));
            }
            if kinds.contains(CredentialType::USERNAME) {
                return Cred::username(user);
            }
            // A server that refuses a key asks again, for ever.
            if std::mem::replace(&mut asked, true) {
                return Err(git2::Error::from_str("the server does not accept the node's SSH key"));
            }
            key(ssh, user)
        });
        callbacks
    }

    /// What libgit2 says, for the user, with the server's last words.
    fn explain(&self, error: &git2::Error) -> Trouble {
        let said = error.message();
        let of_mirror = [ErrorClass::Odb, ErrorClass::Zlib, ErrorClass::Object, ErrorClass::Reference, ErrorClass::Repository];
        // The local transport opens the source with the same words as the mirror.
        if self.url.scheme() != GitScheme::File && of_mirror.contains(&error.class()) {
            return Trouble::damaged(error);
        }
        if said.contains("out of memory") {
            return FetchError::too_large("the repository takes more memory than a fetch may use").into();
        }
        let meaning = match said {
            _ if said.contains("status code: 404") => ": the server has no such repository, or it is private",
            _ if said.contains("status code: 401") || said.contains("status code: 403") => ": the repository is private",
            _ => "",
        };
        let words = plain(&self.depot.meter().take_words());
        let words = if words.is_empty() { words } else { format!(" (the server says: {words})") };
        FetchError::failed(format!("cannot fetch {}: {said}{meaning}{words}", self.url)).into()
    }
}

/// The URL with the pipe in place of its host.
fn by_pipe(url: &GitUrl, pipe: &Pipe) -> Result<String, FetchError> {
    let mut address = url.as_url().clone();
    if address.set_host(Some("127.0.0.1")).is_err() || address.set_port(Some(pipe.port)).is_err() {
        return Err(FetchError::failed(format!("`{url}` is not the address of a server")));
    }
    Ok(address.into())
}

fn key(ssh: &SshSettings, user: &str) -> Result<Cred, git2::Error> {
    match (&ssh.key, &ssh.agent) {
        (Some(key), _) => Cred::ssh_key(user, None, key, None),
        (None, Some(_)) => Cred::ssh_key_from_agent(user),
        (None, None) => Err(git2::Error::from_str("the server asks for an SSH key and the node has none: give it one by --ssh-key")),
    }
}

/// Finds a ref as Git does: in full, as a branch, as a tag; the default branch when none is named.
fn aim_at_ref(heads: &[Head], git_ref: Option<&GitRef>) -> Result<Aim, FetchError> {
    let find = |name: &str| heads.iter().find(|head| head.name == name).map(|head| Aim { source: head.name.clone(), id: head.id });
    if heads.is_empty() {
        return Err(FetchError::failed("the repository is empty: it has no branch yet"));
    }
    let Some(git_ref) = git_ref else {
        let head = heads.iter().find(|head| head.name == "HEAD");
        let branch = head.and_then(|head| head.points_to.as_deref()).and_then(find);
        return branch.or_else(|| find("HEAD")).ok_or_else(|| {
            FetchError::failed(format!("the repository has no default branch: name a ref; it has: {}", some_names(heads)))
        });
    };
    let name = git_ref.as_str();
    find(name)
        .or_else(|| find(&format!("refs/heads/{name}")))
        .or_else(|| find(&format!("refs/tags/{name}")))
        .ok_or_else(|| {
            FetchError::failed(format!(
                "the repository has no branch or tag `{}`; it has: {}",
                shown(name),
                some_names(heads)
            ))
        })
}

/// Up to ten names of branches and tags.
fn some_names(heads: &[Head]) -> String {
    const SHOWN: usize = 10;
    let names: Vec<&str> = heads
        .iter()
        .filter(|head| !head.name.ends_with("^{}"))
        .filter_map(|head| head.name.strip_prefix("refs/heads/").or_else(|| head.name.strip_prefix("refs/tags/")))
        .collect();
    let mut text = names.iter().take(SHOWN).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(names: &[&str]) -> Vec<Head> {
        let head = |(index, name): (usize, &&str)| Head {
            name: (*name).to_owned(),
            id: Oid::from_bytes(&[u8::try_from(index).unwrap(); 20]).unwrap(),
            points_to: (*name == "HEAD").then(|| "refs/heads/main".to_owned()),
        };
        names.iter().enumerate().map(head).collect()
    }

    #[test]
    fn a_ref_is_found_as_git_finds_it() {
        let heads = heads(&["HEAD", "refs/heads/main", "refs/heads/v1", "refs/tags/v1", "refs/tags/v2"]);
        for (name, source) in [
            (None, "refs/heads/main"),
            (Some("HEAD"), "HEAD"),
            (Some("main"), "refs/heads/main"),
            (Some("v1"), "refs/heads/v1"),
            (Some("v2"), "refs/tags/v2"),
            (Some("refs/tags/v1"), "refs/tags/v1"),
        ] {
            let git_ref = name.map(|name| GitRef::parse(name).unwrap());
            assert_eq!(aim_at_ref(&heads, git_ref.as_ref()).unwrap().source, source, "{name:?}");
        }
    }

    #[test]
    fn a_ref_that_is_not_there_is_named_with_some_that_are() {
        let names: Vec<String> = (0..12).map(|number| format!("refs/heads/b{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let git_ref = GitRef::parse("main").unwrap();
        let error = aim_at_ref(&heads(&names), Some(&git_ref)).err().unwrap().to_string();
        assert!(error.contains("`main`; it has: b0, b1") && error.ends_with("b9 and 2 more"), "{error}");
        assert!(aim_at_ref(&[], None).err().unwrap().to_string().contains("empty"));
    }
}
