//! One server asked for one commit.

use super::Trouble;
use super::depot::Depot;
use super::refs::{Aim, Head, aim_at_ref};
use super::server::{self, Server};
use crate::git::error::FetchError;
use crate::git::mirror;
use git2::{AutotagOption, ErrorClass, FetchOptions, Oid, RemoteRedirect};
use sha2::{Digest, Sha256};
use shared::git::has_certificates;
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
        let named = self
            .git_ref
            .as_ref()
            .map(GitRef::as_str)
            .filter(|text| text.len() == 40);
        self.commit
            .as_ref()
            .map(CommitId::as_str)
            .or(named)
            .and_then(|text| Oid::from_str(text).ok())
    }
}

/// Brings the wanted commit into the mirror and returns its id.
pub(super) fn obtain(depot: &Depot, url: &GitUrl, wanted: &Wanted) -> Result<Oid, Trouble> {
    let result = Asking::new(depot, url)?.obtain(wanted);
    match result {
        Err(Trouble::Fetch(FetchError::Failed { .. }) | Trouble::Damaged(_)) => {
            match server::cause(depot.meter()) {
                Some(cause) => Err(cause.into()),
                None => result,
            }
        }
        result => result,
    }
}

/// A server being asked, and the mirror that keeps its answers.
struct Asking<'a> {
    depot: &'a Depot,
    url: &'a GitUrl,
    server: Server<'a>,
    depth: i32,
}

impl<'a> Asking<'a> {
    fn new(depot: &'a Depot, url: &'a GitUrl) -> Result<Self, FetchError> {
        if url.scheme() == GitScheme::Https && !has_certificates() {
            // The submodule of a repository that is not fetched over TLS.
            depot.talk().need_certificates();
        }
        let server = Server::reach(url, &depot.order().policy, depot.meter(), || {
            depot.network()
        })?;
        // libgit2 cannot fetch a part of a local repository's history.
        let depth = if server.is_local() { 0 } else { 1 };
        Ok(Self {
            depot,
            url,
            server,
            depth,
        })
    }

    fn obtain(&self, wanted: &Wanted) -> Result<Oid, Trouble> {
        match &wanted.commit {
            Some(commit) => self.obtain_commit(commit, wanted),
            None => {
                let by_id = wanted.commit_id();
                let id = self.fetch(self.depth, |heads| {
                    match (aim_at_ref(heads, wanted.git_ref.as_ref()), by_id) {
                        (Ok(aim), _) => Ok(aim),
                        (Err(_), Some(id)) => Ok(Aim {
                            source: id.to_string(),
                            id,
                        }),
                        (Err(error), None) => Err(error),
                    }
                })?;
                self.peel(id)
            }
        }
    }

    /// A commit by its id: as the tip of a ref if it is one, else by itself, else, where the server
    /// gives out no commits by id, by looking back from the ref.
    fn obtain_commit(&self, commit: &CommitId, wanted: &Wanted) -> Result<Oid, Trouble> {
        let id = Oid::from_str(commit.as_str()).map_err(|_| {
            FetchError::failed(format!(
                "commits of 64 digits (SHA-256) cannot be fetched: {commit}"
            ))
        })?;
        let direct = self.fetch(self.depth, |heads| {
            let tip = heads.iter().find(|head| head.id == id && !head.is_peeled());
            Ok(Aim {
                source: tip.map_or_else(|| id.to_string(), |head| head.name.clone()),
                id,
            })
        });
        match direct {
            Ok(_) => return self.peel(id),
            Err(error @ Trouble::Damaged(_)) => return Err(error),
            // Nobody answers, or too much: asking for more will not help.
            Err(error) if self.depot.meter().is_over() || self.depot.meter().has_trouble() => {
                return Err(error);
            }
            Err(Trouble::Fetch(_)) => {}
        }
        self.depot.talk().log(format!(
            "the server does not give out commit {commit} by its id: looking back from the ref"
        ));
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
        let place = wanted
            .git_ref
            .as_ref()
            .map_or("the default branch".to_owned(), |git_ref| {
                format!("`{git_ref}`")
            });
        Err(FetchError::failed(format!(
            "the repository has no commit {commit} in the history of {place}"
        ))
        .into())
    }

    /// Connects, chooses, and receives what the mirror lacks. Returns the id that was chosen.
    fn fetch(
        &self,
        depth: i32,
        choose: impl Fn(&[Head]) -> Result<Aim, FetchError>,
    ) -> Result<Oid, Trouble> {
        match self.fetch_once(depth, &choose) {
            Err(Trouble::Fetch(FetchError::Failed { detail }))
                if depth > 0 && detail.contains("doesn't support shallow") =>
            {
                self.fetch_once(0, &choose)
            }
            result => result,
        }
    }

    fn fetch_once(
        &self,
        depth: i32,
        choose: &impl Fn(&[Head]) -> Result<Aim, FetchError>,
    ) -> Result<Oid, Trouble> {
        let repo = &self.depot.repo;
        let mut remote = repo
            .remote_anonymous(&self.server.address)
            .map_err(|error| self.explain(&error))?;
        let (mut connection, heads) = self
            .server
            .connect(&mut remote)
            .map_err(|error| self.explain(&error))?;
        let aim = choose(&heads)?;
        let has_it = depth <= 1
            && self
                .peel(aim.id)
                .is_ok_and(|commit| self.depot.holds(commit));
        if has_it {
            return Ok(aim.id);
        }
        let mut options = FetchOptions::new();
        options
            .depth(depth)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None)
            .proxy_options(self.server.proxy())
            .remote_callbacks(self.server.callbacks());
        let refspec = format!("+{}:{}", aim.source, self.kept_as(&aim.source));
        let fetched = connection
            .remote()
            .fetch(&[&refspec], Some(&mut options), None);
        fetched.map_err(|error| self.explain(&error))?;
        self.depot
            .repo
            .odb()
            .and_then(|odb| odb.refresh())
            .map_err(|error| Trouble::damaged(&error))?;
        Ok(aim.id)
    }

    /// The ref of the mirror that keeps what was fetched from this server's `source`. Names are
    /// hashed: a branch `a/b` may follow a branch `a`.
    fn kept_as(&self, source: &str) -> String {
        format!(
            "refs/longshore/{}/{}",
            mirror::key(self.url),
            hex::encode(&Sha256::digest(source)[..16])
        )
    }

    /// The commit that a ref's id stands for: itself, or what an annotated tag is about.
    fn peel(&self, id: Oid) -> Result<Oid, Trouble> {
        let object = self
            .depot
            .repo
            .find_object(id, None)
            .map_err(|error| Trouble::damaged(&error))?;
        match object.peel_to_commit() {
            Ok(commit) => Ok(commit.id()),
            Err(error) if error.code() == git2::ErrorCode::NotFound => {
                Err(Trouble::damaged(&error))
            }
            Err(_) => Err(FetchError::failed(
                "the ref stands for a file or folder, not for a commit",
            )
            .into()),
        }
    }

    /// What libgit2 says: of the mirror, or of the server.
    fn explain(&self, error: &git2::Error) -> Trouble {
        let of_mirror = [
            ErrorClass::Odb,
            ErrorClass::Zlib,
            ErrorClass::Object,
            ErrorClass::Reference,
            ErrorClass::Repository,
        ];
        // The local transport opens the source with the same words as the mirror.
        if !self.server.is_local() && of_mirror.contains(&error.class()) {
            return Trouble::damaged(error);
        }
        self.server.explain("fetch", error).into()
    }
}
