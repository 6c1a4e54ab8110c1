//! The refs that a server has, and which of them is meant.

use crate::git::error::FetchError;
use git2::{Oid, RemoteHead};
use shared::name::shown;
use shared::source::GitRef;
use std::collections::HashSet;

/// What follows a tag's name where the server also says which commit the tag is about.
const PEELED: &str = "^{}";

/// A ref that the server has.
pub(super) struct Head {
    pub(super) name: String,
    pub(super) id: Oid,
    points_to: Option<String>,
}

impl Head {
    pub(super) fn new(head: &RemoteHead<'_>) -> Self {
        Self {
            name: head.name().to_owned(),
            id: head.oid(),
            points_to: head.symref_target().map(str::to_owned),
        }
    }

    /// Not a ref of its own, but what a tag is about.
    pub(super) fn is_peeled(&self) -> bool {
        self.name.ends_with(PEELED)
    }
}

/// How far to fetch, and from where.
pub(super) struct Aim {
    /// The ref or commit that is asked for.
    pub(super) source: String,
    /// What it stands for; a tag may have to be peeled.
    pub(super) id: Oid,
}

/// Finds a ref as Git does: in full, as a branch, as a tag; the default branch when none is named.
pub(super) fn aim_at_ref(heads: &[Head], git_ref: Option<&GitRef>) -> Result<Aim, FetchError> {
    let find = |name: &str| {
        heads.iter().find(|head| head.name == name).map(|head| Aim {
            source: head.name.clone(),
            id: head.id,
        })
    };
    if heads.is_empty() {
        return Err(FetchError::failed(
            "the repository is empty: it has no branch yet",
        ));
    }
    let Some(git_ref) = git_ref else {
        let head = heads.iter().find(|head| head.name == "HEAD");
        let branch = head
            .and_then(|head| head.points_to.as_deref())
            .and_then(find);
        return branch.or_else(|| find("HEAD")).ok_or_else(|| {
            FetchError::failed(format!(
                "the repository has no default branch: name a ref; it has: {}",
                some_names(heads)
            ))
        });
    };
    let name = git_ref.as_str();
    find(name)
        .or_else(|| find(&format!("refs/heads/{name}")))
        .or_else(|| find(&format!("refs/tags/{name}")))
        .ok_or_else(|| {
            let hint = if is_short_commit(name) {
                " (a commit is given with all its 40 digits)"
            } else {
                ""
            };
            FetchError::failed(format!(
                "the repository has no branch or tag `{}`{hint}; it has: {}",
                shown(name),
                some_names(heads)
            ))
        })
}

/// Every branch and then every tag, as far as they are not too many; none when there is none.
pub(super) fn at_all(heads: &[Head]) -> Option<Vec<Aim>> {
    // Each is a file in the mirror afterwards, and a server says how many there are.
    const SOUGHT: usize = 2000;
    let mut seen = HashSet::new();
    let aims: Vec<Aim> = ["refs/heads/", "refs/tags/"]
        .into_iter()
        .flat_map(|kind| heads.iter().filter(move |head| head.name.starts_with(kind)))
        .filter(|head| !head.is_peeled() && seen.insert(head.id))
        .take(SOUGHT)
        .map(|head| Aim {
            source: head.name.clone(),
            id: head.id,
        })
        .collect();
    (!aims.is_empty()).then_some(aims)
}

/// Whether it looks like the short form of a commit's id, as Git prints it.
fn is_short_commit(name: &str) -> bool {
    (7..40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What an aim is about, as far as the server's list says: for an annotated tag the commit inside.
pub(super) fn peeled(heads: &[Head], aim: &Aim) -> Oid {
    let name = format!("{}{PEELED}", aim.source);
    heads
        .iter()
        .find(|head| head.name == name)
        .map_or(aim.id, |head| head.id)
}

/// Up to ten names of branches and tags.
fn some_names(heads: &[Head]) -> String {
    const SHOWN: usize = 10;
    let names: Vec<&str> = heads
        .iter()
        .filter(|head| !head.is_peeled())
        .filter_map(|head| {
            head.name
                .strip_prefix("refs/heads/")
                .or_else(|| head.name.strip_prefix("refs/tags/"))
        })
        .collect();
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| shown(name))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
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
        let heads = heads(&[
            "HEAD",
            "refs/heads/main",
            "refs/heads/v1",
            "refs/tags/v1",
            "refs/tags/v2",
        ]);
        for (name, source) in [
            (None, "refs/heads/main"),
            (Some("HEAD"), "HEAD"),
            (Some("main"), "refs/heads/main"),
            (Some("v1"), "refs/heads/v1"),
            (Some("v2"), "refs/tags/v2"),
            (Some("refs/tags/v1"), "refs/tags/v1"),
        ] {
            let git_ref = name.map(|name| GitRef::parse(name).unwrap());
            assert_eq!(
                aim_at_ref(&heads, git_ref.as_ref()).unwrap().source,
                source,
                "{name:?}"
            );
        }
    }

    #[test]
    fn an_annotated_tag_stands_for_its_commit() {
        let heads = heads(&[
            "HEAD",
            "refs/heads/main",
            "refs/tags/v1",
            "refs/tags/v1^{}",
            "refs/tags/v2",
        ]);
        for (name, index) in [("v1", 3), ("refs/tags/v1", 3), ("v2", 4), ("main", 1)] {
            let aim = aim_at_ref(&heads, Some(&GitRef::parse(name).unwrap())).unwrap();
            assert_eq!(peeled(&heads, &aim), heads[index].id, "{name}");
        }
    }

    #[test]
    fn all_are_branches_first_and_each_commit_once() {
        let mut heads = heads(&[
            "HEAD",
            "refs/tags/v1",
            "refs/tags/v1^{}",
            "refs/heads/main",
            "refs/heads/same",
            "refs/pull/1/head",
        ]);
        heads[4].id = heads[3].id;
        let aims = at_all(&heads).unwrap();
        let sources: Vec<&str> = aims.iter().map(|aim| aim.source.as_str()).collect();
        assert_eq!(sources, ["refs/heads/main", "refs/tags/v1"]);
        assert!(at_all(&heads[..1]).is_none());
    }

    #[test]
    fn a_ref_that_is_not_there_is_named_with_some_that_are() {
        let names: Vec<String> = (0..12)
            .map(|number| format!("refs/heads/b{number}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let git_ref = GitRef::parse("main").unwrap();
        let error = aim_at_ref(&heads(&names), Some(&git_ref))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("`main`; it has: b0, b1") && error.ends_with("b9 and 2 more"),
            "{error}"
        );
        let words = |name: &str| {
            let git_ref = GitRef::parse(name).unwrap();
            let found = aim_at_ref(&heads(&names), Some(&git_ref));
            found.err().unwrap().to_string()
        };
        for (name, is_short) in [("a1b2c3d", true), ("a1b2c3", false), ("feature", false)] {
            assert_eq!(words(name).contains("40 digits"), is_short, "{name}");
        }
        assert!(
            aim_at_ref(&[], None)
                .err()
                .unwrap()
                .to_string()
                .contains("empty")
        );
    }
}
