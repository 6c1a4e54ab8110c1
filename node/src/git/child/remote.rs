//! One server asked for one commit.

use super::Trouble;
use super::depot::Depot;
use super::refs::{Aim, Head, aim_at_ref, at_all};
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
            .filter(|git_ref| is_commit(git_ref))
            .map(GitRef::as_str);
        self.commit
            .as_ref()
            .map(CommitId::as_str)
            .or(named)
            .and_then(|text| Oid::from_str(text).ok())
    }
}

/// Whether a ref is written as a commit's id, in full.
fn is_commit(git_ref: &GitRef) -> bool {
    let text = git_ref.as_str();
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is said of a commit that was looked for everywhere.
fn leads_nowhere(id: Oid, wanted: &Wanted) -> FetchError {
    // Whose submodule it is cannot name anything else.
    let or = if wanted.git_ref.as_ref().is_some_and(is_commit) {
        ", or name a branch or tag instead"
    } else {
        ""
    };
    FetchError::failed(format!(
        "no branch or tag of the repository leads to commit {id}: push it on a branch{or}"
    ))
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
        match (wanted.commit_id(), &wanted.commit) {
            (Some(id), _) => self.obtain_commit(id, wanted),
            (None, Some(commit)) => Err(FetchError::failed(format!(
                "commits of 64 digits (SHA-256) cannot be fetched: {commit}"
            ))
            .into()),
            (None, None) => {
                let id = self.fetch(self.depth, |heads| {
                    Ok(vec![aim_at_ref(heads, wanted.git_ref.as_ref())?])
                })?;
                self.peel(id)
            }
        }
    }

    /// A commit by its id: as the tip of a ref if it is one, else by itself, else, where the server
    /// gives out no commits by id, by looking back from the refs.
    fn obtain_commit(&self, id: Oid, wanted: &Wanted) -> Result<Oid, Trouble> {
        let direct = self.fetch(self.depth, |heads| {
            // What reads as a commit may still be the name of a branch.
            if wanted.commit.is_none()
                && let Ok(aim) = aim_at_ref(heads, wanted.git_ref.as_ref())
            {
                return Ok(vec![aim]);
            }
            let tip = heads.iter().find(|head| head.id == id && !head.is_peeled());
            Ok(vec![Aim {
                source: tip.map_or_else(|| id.to_string(), |head| head.name.clone()),
                id,
            }])
        });
        match direct {
            Ok(chosen) => return self.peel(chosen),
            Err(error @ Trouble::Damaged(_)) => return Err(error),
            // Nobody answers, or too much: asking for more will not help.
            Err(error) if self.depot.meter().is_over() || self.depot.meter().has_trouble() => {
                return Err(error);
            }
            Err(Trouble::Fetch(_)) => {}
        }
        self.look_back(id, wanted)
    }

    /// A commit from what leads to it: step by step from the ref that it was taken from (the default
    /// branch where that is not known), then from every branch and tag.
    fn look_back(&self, id: Oid, wanted: &Wanted) -> Result<Oid, Trouble> {
        let from = wanted
            .git_ref
            .as_ref()
            .filter(|git_ref| !is_commit(git_ref));
        let place = from.map_or("the default branch".to_owned(), |git_ref| {
            format!("the ref `{git_ref}`")
        });
        self.depot.talk().log(format!(
            "the server does not give out commit {id} by its id: looking back from {place}"
        ));
        let step_by_step: &[i32] = if self.depth == 0 { &[0] } else { &DEEPER };
        for depth in step_by_step {
            // The ref may be gone, and the commit be elsewhere.
            self.fetch(*depth, |heads| match aim_at_ref(heads, from) {
                Ok(aim) => Ok(vec![aim]),
                Err(error) => at_all(heads).ok_or(error),
            })?;
            if let Some(found) = self.found(id) {
                return Ok(found);
            }
        }
        self.depot.talk().log(format!(
            "commit {id} is not in the history of {place}: looking back from every branch and tag"
        ));
        let whole = if self.depth == 0 { 0 } else { WHOLE };
        self.fetch(whole, |heads| {
            at_all(heads).ok_or_else(|| leads_nowhere(id, wanted))
        })?;
        self.found(id)
            .ok_or_else(|| leads_nowhere(id, wanted).into())
    }

    /// The commit that an id stands for, when all of it is in the mirror.
    fn found(&self, id: Oid) -> Option<Oid> {
        self.peel(id)
            .ok()
            .filter(|commit| self.depot.holds(*commit))
    }

    /// Connects, chooses, and receives what the mirror lacks. Returns the first id that was chosen.
    fn fetch(
        &self,
        depth: i32,
        choose: impl Fn(&[Head]) -> Result<Vec<Aim>, FetchError>,
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
        choose: &impl Fn(&[Head]) -> Result<Vec<Aim>, FetchError>,
    ) -> Result<Oid, Trouble> {
        let repo = &self.depot.repo;
        let mut remote = repo
            .remote_anonymous(&self.server.address)
            .map_err(|error| self.explain(&error))?;
        let (mut connection, heads) = self
            .server
            .connect(&mut remote)
            .map_err(|error| self.explain(&error))?;
        let aims = choose(&heads)?;
        let Some(first) = aims.first().map(|aim| aim.id) else {
            return Err(FetchError::failed("the repository has nothing to fetch").into());
        };
        if depth <= 1 && aims.iter().all(|aim| self.found(aim.id).is_some()) {
            return Ok(first);
        }
        let mut options = FetchOptions::new();
        options
            .depth(depth)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None)
            .proxy_options(self.server.proxy())
            .remote_callbacks(self.server.callbacks());
        let refspecs: Vec<String> = aims
            .iter()
            .map(|aim| format!("+{}:{}", aim.source, self.kept_as(&aim.source)))
            .collect();
        let fetched = connection
            .remote()
            .fetch(&refspecs, Some(&mut options), None);
        fetched.map_err(|error| self.explain(&error))?;
        self.depot
            .repo
            .odb()
            .and_then(|odb| odb.refresh())
            .map_err(|error| Trouble::damaged(&error))?;
        Ok(first)
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
