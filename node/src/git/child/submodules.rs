//! Repositories within the repository, fetched by the same rules as the repository itself: the
//! same grammar of addresses, the same guard, the same limits, which count all of them together.

use super::Trouble;
use super::census::Census;
use super::depot::Depot;
use super::gitmodules::{self, Module};
use super::remote::Wanted;
use super::tree::{self, Kind};
use crate::git::error::FetchError;
use git2::Oid;
use shared::name::shown;
use shared::source::{CommitId, GitScheme, GitUrl, RepoPath};
use std::collections::BTreeMap;

/// The largest `.gitmodules` that is read, in bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// The trees of submodules by the path at which they stand in the build context.
pub(super) type Mounts = BTreeMap<Vec<u8>, Oid>;

/// A repository whose submodules are looked for.
pub(super) struct Holder<'a> {
    pub(super) url: &'a GitUrl,
    /// The root of its tree, where `.gitmodules` is.
    pub(super) root: Oid,
    /// The folder of it that is used.
    pub(super) subdir: Option<&'a RepoPath>,
    /// That folder's tree, already counted.
    pub(super) used: Oid,
    /// Where the folder stands in the build context.
    pub(super) at: &'a [u8],
    /// How deep: 1 for the repository itself.
    pub(super) level: u32,
}

/// Fetches and counts the submodules of a repository and theirs.
pub(super) fn gather(
    depot: &Depot,
    census: &mut Census<'_>,
    holder: &Holder<'_>,
    mounts: &mut Mounts,
) -> Result<(), Trouble> {
    let commits = census.modules(holder.used)?;
    if commits.is_empty() {
        return Ok(());
    }
    let limits = depot.order().limits;
    if holder.level > limits.submodule_depth {
        let wrong = format!(
            "the repository has submodules of submodules, more than {} deep",
            limits.submodule_depth
        );
        return Err(FetchError::too_large(wrong).into());
    }
    let modules = declared(depot, holder.root)?;
    for (path, commit) in commits {
        let shown_path = shown(&String::from_utf8_lossy(&path));
        let in_root = match holder.subdir {
            Some(subdir) => [subdir.as_str().as_bytes(), &path[..]].join(&b'/'),
            None => path.clone(),
        };
        let Some(module) = modules
            .iter()
            .find(|module| module.path.as_str().as_bytes() == in_root)
        else {
            depot.talk().log(format!("`{shown_path}` is a submodule without an address in .gitmodules: it stays an empty folder"));
            continue;
        };
        if mounts.len() >= limits.submodules {
            return Err(FetchError::too_large(format!(
                "the repository has more than {} submodules",
                limits.submodules
            ))
            .into());
        }
        let at = if holder.at.is_empty() {
            path
        } else {
            [holder.at, &path[..]].join(&b'/')
        };
        let url = address(depot, holder.url, module)?;
        depot.talk().log(format!(
            "fetching submodule `{shown_path}` from {url} at commit {commit}"
        ));
        let tree =
            fetch(depot, &url, commit).map_err(|trouble| of_submodule(trouble, &shown_path))?;
        census.add(tree)?;
        mounts.insert(at.clone(), tree);
        let inner = Holder {
            url: &url,
            root: tree,
            subdir: None,
            used: tree,
            at: &at,
            level: holder.level + 1,
        };
        gather(depot, census, &inner, mounts)?;
    }
    Ok(())
}

fn declared(depot: &Depot, root: Oid) -> Result<Vec<Module>, Trouble> {
    let odb = depot.odb()?;
    let entry = tree::read(&depot.repo, &odb, root)?
        .into_iter()
        .find(|entry| entry.name == b".gitmodules");
    let Some(entry) = entry else {
        return Ok(Vec::new());
    };
    if !matches!(entry.kind, Kind::File { .. }) {
        return Err(FetchError::failed(format!(
            ".gitmodules is {}, not a file",
            entry.kind.as_str()
        ))
        .into());
    }
    let content = tree::blob(&odb, entry.id, FILE_LIMIT)?.ok_or_else(|| {
        FetchError::failed(format!(".gitmodules has more than {FILE_LIMIT} bytes"))
    })?;
    let text =
        String::from_utf8(content).map_err(|_| FetchError::failed(".gitmodules is not UTF-8"))?;
    Ok(gitmodules::parse(&text).map_err(FetchError::failed)?)
}

fn address(depot: &Depot, parent: &GitUrl, module: &Module) -> Result<GitUrl, FetchError> {
    let of_module = |error: &dyn std::fmt::Display| {
        FetchError::failed(format!("submodule `{}`: {error}", module.path))
    };
    let url = gitmodules::resolve(parent, &module.url).map_err(|error| of_module(&error))?;
    // A repository of a server has no say over which directories of this machine are read.
    let file_allowed = depot.order().policy.file_allowed && parent.scheme() == GitScheme::File;
    url.check_scheme(file_allowed)
        .map_err(|error| of_module(&error))?;
    Ok(url)
}

fn fetch(depot: &Depot, url: &GitUrl, commit: Oid) -> Result<Oid, Trouble> {
    let id = CommitId::parse(&commit.to_string())
        .map_err(|error| FetchError::failed(error.to_string()))?;
    let commit = depot.commit(
        url,
        &Wanted {
            git_ref: None,
            commit: Some(id),
        },
    )?;
    depot
        .repo
        .find_commit(commit)
        .map(|commit| commit.tree_id())
        .map_err(|error| Trouble::damaged(&error))
}

fn of_submodule(trouble: Trouble, path: &str) -> Trouble {
    match trouble {
        Trouble::Fetch(FetchError::Failed { detail }) => {
            FetchError::failed(format!("submodule `{path}`: {detail}")).into()
        }
        other => other,
    }
}
