//! One tree object read and vetted, and entries looked up by path.

use super::Trouble;
use crate::git::error::FetchError;
use git2::{ObjectType, Odb, Oid, Repository};
use shared::name::shown;
use shared::source::RepoPath;

/// The largest tree object that is loaded: more than 200,000 entries of usual length.
const TREE_OBJECT_LIMIT: usize = 32 << 20;

/// The longest name of an entry, as Linux has it.
const NAME_LIMIT: usize = 255;

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) id: Oid,
    pub(super) kind: Kind,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        executable: bool,
    },
    Link,
    Folder,
    /// A commit of another repository.
    Module,
}

impl Kind {
    fn of_mode(mode: i32) -> Option<Self> {
        Some(match mode {
            0o040_000 => Self::Folder,
            0o120_000 => Self::Link,
            0o160_000 => Self::Module,
            // Git writes 644 and 755; some early tools wrote more. Only the owner's exec bit counts.
            0o100_000..=0o100_777 => Self::File {
                executable: mode & 0o100 != 0,
            },
            _ => return None,
        })
    }

    /// As it stands in a message.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Link => "a symbolic link",
            Self::Folder => "a folder",
            Self::Module => "a submodule",
        }
    }
}

/// Reads one tree. Names that no honest repository has are refused.
pub(super) fn read(repo: &Repository, odb: &Odb<'_>, id: Oid) -> Result<Vec<Entry>, Trouble> {
    let (size, kind) = odb
        .read_header(id)
        .map_err(|error| Trouble::damaged(&error))?;
    if kind != ObjectType::Tree {
        return Err(Trouble::Damaged(format!("{id} is not a tree")));
    }
    if size > TREE_OBJECT_LIMIT {
        return Err(
            FetchError::too_large("a folder of the repository has too many entries").into(),
        );
    }
    let tree = repo
        .find_tree(id)
        .map_err(|error| Trouble::damaged(&error))?;
    tree.iter()
        .map(|entry| {
            let name = entry.name_bytes().to_vec();
            let text = String::from_utf8_lossy(&name);
            check_name(&name).map_err(|wrong| {
                FetchError::failed(format!(
                    "the repository has an entry `{}`: {wrong}",
                    shown(&text)
                ))
            })?;
            let kind = Kind::of_mode(entry.filemode_raw()).ok_or_else(|| {
                FetchError::failed(format!(
                    "the repository has an entry `{}` of an unknown kind",
                    shown(&text)
                ))
            })?;
            Ok(Entry {
                id: entry.id(),
                kind,
                name,
            })
        })
        .collect()
}

/// Refuses names that mean something else than an entry of a folder, here or on another system.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err("a name has between 1 and 255 bytes");
    }
    if name.iter().any(|byte| *byte == 0 || *byte == b'/') {
        return Err("a name has no `/` and no NUL");
    }
    if name == b"." || name == b".." {
        return Err("this is not a name");
    }
    // `.git.`, `.GIT ` and `git~1` are `.git` on file systems that images are copied to.
    let end = name
        .iter()
        .rposition(|byte| !b". ".contains(byte))
        .map_or(0, |last| last + 1);
    if name[..end].eq_ignore_ascii_case(b".git") || name[..end].eq_ignore_ascii_case(b"git~1") {
        return Err("`.git` is Git's own");
    }
    Ok(())
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The entry itself.
    Entry(Entry),
    /// Nothing.
    Nothing,
    /// The path leads through something that is not a folder: which part, and what it is.
    Blocked { part: String, kind: Kind },
}

/// Looks up a path without ever following a link.
pub(super) fn find(
    repo: &Repository,
    odb: &Odb<'_>,
    root: Oid,
    path: &RepoPath,
) -> Result<Found, Trouble> {
    let mut folder = root;
    let mut walked = String::new();
    let mut parts = path.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        walked.push_str(if walked.is_empty() { "" } else { "/" });
        walked.push_str(part);
        let Some(entry) = read(repo, odb, folder)?
            .into_iter()
            .find(|entry| entry.name == part.as_bytes())
        else {
            return Ok(Found::Nothing);
        };
        match entry.kind {
            _ if parts.peek().is_none() => return Ok(Found::Entry(entry)),
            Kind::Folder => folder = entry.id,
            kind => return Ok(Found::Blocked { part: walked, kind }),
        }
    }
    Ok(Found::Nothing)
}

/// Reads a file of at most `limit` bytes; its size is known before it is loaded. Nothing when it
/// is larger.
pub(super) fn blob(odb: &Odb<'_>, id: Oid, limit: u64) -> Result<Option<Vec<u8>>, Trouble> {
    if blob_size(odb, id)? > limit {
        return Ok(None);
    }
    let object = odb.read(id).map_err(|error| Trouble::damaged(&error))?;
    Ok(Some(object.data().to_vec()))
}

/// The size of a file, without loading it.
pub(super) fn blob_size(odb: &Odb<'_>, id: Oid) -> Result<u64, Trouble> {
    let (size, kind) = odb
        .read_header(id)
        .map_err(|error| Trouble::damaged(&error))?;
    if kind == ObjectType::Blob {
        Ok(size as u64)
    } else {
        Err(Trouble::Damaged(format!("{id} is not a file")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in [
            "a",
            "..a",
            ".gitignore",
            ".gitmodules",
            "git",
            "héllo",
            "-x",
            "a b",
        ] {
            assert!(check_name(name.as_bytes()).is_ok(), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "", ".", "..", "a/b", "a\0", ".git", ".GIT", ".git.", ".git ", ".Git. .", "git~1",
            &long,
        ] {
            assert!(check_name(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_four_kinds_of_entries_exist() {
        assert_eq!(
            Kind::of_mode(0o100_755),
            Some(Kind::File { executable: true })
        );
        assert_eq!(
            Kind::of_mode(0o100_664),
            Some(Kind::File { executable: false })
        );
        for mode in [0, 0o020_644, 0o060_000, 0o104_755, 0o140_000, 0o010_644] {
            assert_eq!(Kind::of_mode(mode), None, "{mode:o}");
        }
    }
}
