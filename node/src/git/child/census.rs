//! A tree counted before anything of it is used.
//!
//! A few hundred bytes of objects can stand for a billion files: a folder that holds the same
//! folder ten times, ten levels deep. So each distinct folder is counted once and its totals are
//! remembered by its id; the work is bounded by what the objects really hold, and the counting ends
//! as soon as a limit is passed.

use super::meter::Meter;
use super::tree::{self, Kind};
use super::{Trouble, depot::Depot};
use crate::git::error::FetchError;
use crate::git::order::FetchLimits;
use git2::{Odb, Oid};
use std::collections::HashMap;

/// The longest path inside a build context, in bytes.
const PATH_LIMIT: u64 = 4000;

/// The longest target of a symbolic link, in bytes.
const LINK_LIMIT: u64 = 4000;

/// What a tree holds, all levels together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Files, links, folders and submodules.
    pub(super) entries: u64,
    /// Bytes of files and links.
    pub(super) bytes: u64,
    /// Submodules.
    pub(super) modules: u64,
    /// Folders within folders, from 1 for one without folders.
    height: u32,
    /// The longest path.
    path: u64,
}

/// Counts trees; the totals of all of them together are held against the limits.
pub(super) struct Census<'a> {
    depot: &'a Depot,
    odb: Odb<'a>,
    limits: FetchLimits,
    meter: &'a Meter,
    known: HashMap<Oid, Totals>,
    sum: Totals,
}

impl<'a> Census<'a> {
    pub(super) fn new(depot: &'a Depot) -> Result<Self, Trouble> {
        Ok(Self {
            depot,
            odb: depot.odb()?,
            limits: depot.order().limits,
            meter: depot.meter(),
            known: HashMap::new(),
            sum: Totals::default(),
        })
    }

    /// Counts one more tree of the build context.
    pub(super) fn add(&mut self, root: Oid) -> Result<(), Trouble> {
        let totals = self.count(root, 1)?;
        self.sum.take_in(0, totals);
        self.check(&self.sum)?;
        Ok(())
    }

    /// Paths, relative to `root`, and commits of the submodules in a counted tree.
    pub(super) fn modules(&self, root: Oid) -> Result<Vec<(Vec<u8>, Oid)>, Trouble> {
        let mut found = Vec::new();
        self.collect_modules(root, &mut Vec::new(), &mut found)?;
        Ok(found)
    }

    fn count(&mut self, id: Oid, depth: u32) -> Result<Totals, Trouble> {
        if depth > self.limits.depth {
            return Err(self.too_deep());
        }
        if let Some(known) = self.known.get(&id) {
            // Shared below another folder it may reach deeper than where it was first met.
            let reach = depth + known.height - 1;
            return if reach > self.limits.depth {
                Err(self.too_deep())
            } else {
                Ok(*known)
            };
        }
        let mut totals = Totals {
            height: 1,
            ..Totals::default()
        };
        for entry in tree::read(&self.depot.repo, &self.odb, id)? {
            let name = entry.name.len() as u64;
            let inner = match entry.kind {
                Kind::Folder => self.count(entry.id, depth + 1)?,
                Kind::Module => Totals {
                    modules: 1,
                    ..Totals::default()
                },
                Kind::Link => Totals {
                    bytes: self.size(entry.id, LINK_LIMIT, "the target of a symbolic link")?,
                    ..Totals::default()
                },
                Kind::File { .. } => Totals {
                    bytes: self.size(entry.id, self.limits.file_bytes, "a file")?,
                    ..Totals::default()
                },
            };
            totals.take_in(name, inner);
            self.check(&totals)?;
        }
        self.meter.step();
        self.known.insert(id, totals);
        Ok(totals)
    }

    fn size(&self, id: Oid, limit: u64, what: &str) -> Result<u64, Trouble> {
        let size = tree::blob_size(&self.odb, id)?;
        if size > limit {
            return Err(FetchError::too_large(format!(
                "{what} of the repository has {size} bytes, more than {limit}"
            ))
            .into());
        }
        Ok(size)
    }

    fn check(&self, totals: &Totals) -> Result<(), FetchError> {
        let FetchLimits {
            files,
            tree_bytes,
            submodules,
            ..
        } = self.limits;
        if totals.entries > files {
            return Err(FetchError::too_large(format!(
                "the repository has more than {files} files and folders"
            )));
        }
        if totals.bytes > tree_bytes {
            return Err(FetchError::too_large(format!(
                "the files of the repository have more than {tree_bytes} bytes together"
            )));
        }
        if totals.modules > submodules as u64 {
            return Err(FetchError::too_large(format!(
                "the repository has more than {submodules} submodules"
            )));
        }
        if totals.path > PATH_LIMIT {
            return Err(FetchError::too_large(format!(
                "the repository has a path of more than {PATH_LIMIT} bytes"
            )));
        }
        Ok(())
    }

    fn too_deep(&self) -> Trouble {
        FetchError::too_large(format!(
            "the repository has folders within folders, more than {} deep",
            self.limits.depth
        ))
        .into()
    }

    fn collect_modules(
        &self,
        folder: Oid,
        path: &mut Vec<u8>,
        found: &mut Vec<(Vec<u8>, Oid)>,
    ) -> Result<(), Trouble> {
        if self
            .known
            .get(&folder)
            .is_none_or(|totals| totals.modules == 0)
        {
            return Ok(());
        }
        for entry in tree::read(&self.depot.repo, &self.odb, folder)? {
            let before = path.len();
            path.extend_from_slice(if before == 0 { b"" } else { b"/" });
            path.extend_from_slice(&entry.name);
            match entry.kind {
                Kind::Folder => self.collect_modules(entry.id, path, found)?,
                Kind::Module => found.push((path.clone(), entry.id)),
                Kind::File { .. } | Kind::Link => {}
            }
            path.truncate(before);
        }
        Ok(())
    }
}

impl Totals {
    /// Takes in an entry with a name of `name` bytes that holds `inner`.
    fn take_in(&mut self, name: u64, inner: Self) {
        // Saturating: ten levels of ten thousand each are beyond 64 bits.
        self.entries = self.entries.saturating_add(1).saturating_add(inner.entries);
        self.bytes = self.bytes.saturating_add(inner.bytes);
        self.modules = self.modules.saturating_add(inner.modules);
        self.height = self.height.max(inner.height + 1);
        self.path = self.path.max(name + u64::from(inner.path > 0) + inner.path);
    }
}
