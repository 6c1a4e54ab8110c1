//! The build context: the tree's objects streamed into a tar.
//!
//! GNU format, and nothing that is not the tree's: owner 0, the commit's time, the owner's exec bit;
//! the same commit gives the same bytes. Links are entries like any other and are never followed.

use super::Trouble;
use super::builtin;
use super::depot::Depot;
use super::meter::Meter;
use super::plan::{Plan, Recipe};
use super::tree::{self, Entry, Kind};
use crate::git::error::FetchError;
use crate::git::order::FetchLimits;
use crate::git::wire::Written;
use git2::{Odb, Oid};
use shared::spec::Lang;
use shared::spec::config_toml::FILE_NAMES;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{EntryType, Header};

/// Writes the build context into the file `to`, which is made anew.
pub(super) fn write(
    depot: &Depot,
    plan: &Plan,
    limits: &FetchLimits,
    meter: &Meter,
    to: &Path,
) -> Result<Written, FetchError> {
    let recipe = plan
        .recipe
        .as_ref()
        .ok_or_else(|| FetchError::node("writing the build context", "nothing is built"))?;
    write_tar(depot, plan, recipe, limits, meter, to).map_err(|trouble| match trouble {
        Trouble::Fetch(error) => error,
        // Its tree was whole when it was counted.
        Trouble::Damaged(detail) => FetchError::node("reading the mirror", detail),
    })
}

fn write_tar(
    depot: &Depot,
    plan: &Plan,
    recipe: &Recipe,
    limits: &FetchLimits,
    meter: &Meter,
    to: &Path,
) -> Result<Written, Trouble> {
    let file = File::create(to).map_err(disk)?;
    let mut writer = Writer {
        depot,
        odb: depot.odb()?,
        plan,
        recipe,
        file_limit: limits.file_bytes,
        meter,
        tar: tar::Builder::new(BufWriter::with_capacity(1 << 18, file)),
        pending: Vec::new(),
        entries: 0,
    };
    let dockerfile = match recipe {
        Recipe::Own { path, .. } => path.to_string(),
        Recipe::BuiltIn { text, .. } => {
            writer.put(EntryType::Regular, b"Dockerfile", 0o644, text.as_bytes())?;
            writer.pending.push(builtin::FOLDER.as_bytes().to_vec());
            // `COPY app/` needs the folder, also when nothing is in it.
            writer.put_pending()?;
            "Dockerfile".to_owned()
        }
    };
    writer.folder(plan.context, &mut Vec::new())?;
    let entries = writer.entries;
    let mut buffer = writer.tar.into_inner().map_err(disk)?;
    buffer.flush().map_err(disk)?;
    let bytes = buffer.get_ref().metadata().map_err(disk)?.len();
    Ok(Written {
        dockerfile,
        bytes,
        files: entries,
    })
}

fn disk(error: io::Error) -> Trouble {
    FetchError::node("writing the build context", error).into()
}

struct Writer<'a> {
    depot: &'a Depot,
    odb: Odb<'a>,
    plan: &'a Plan,
    recipe: &'a Recipe,
    file_limit: u64,
    meter: &'a Meter,
    tar: tar::Builder<BufWriter<File>>,
    /// Folders on the way to where we are that are not written yet: one is written once something
    /// in it is.
    pending: Vec<Vec<u8>>,
    entries: u64,
}

impl Writer<'_> {
    /// Writes what is in a folder. `path` is the folder's, inside the build context.
    fn folder(&mut self, folder: Oid, path: &mut Vec<u8>) -> Result<(), Trouble> {
        for entry in tree::read(&self.depot.repo, &self.odb, folder)? {
            let before = path.len();
            path.extend_from_slice(if before == 0 { b"" } else { b"/" });
            path.extend_from_slice(&entry.name);
            self.entry(&entry, path)?;
            path.truncate(before);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, path: &mut Vec<u8>) -> Result<(), Trouble> {
        match entry.kind {
            Kind::Folder => self.inner_folder(entry.id, path),
            Kind::Module => match self.plan.mounts.get(path.as_slice()) {
                Some(tree) => self.inner_folder(*tree, path),
                None if self.is_left_out(path) => Ok(()),
                None => {
                    self.pending.push(self.placed(path));
                    self.put_pending()
                }
            },
            _ if self.is_left_out(path) => Ok(()),
            Kind::Link => {
                let target = self.blob(entry.id)?;
                self.put_pending()?;
                self.put(EntryType::Symlink, &self.placed(path), 0o777, &target)
            }
            Kind::File { executable } => {
                let content = match self.recipe {
                    Recipe::Own {
                        path: dockerfile,
                        replaced: Some(content),
                    } if dockerfile.as_str().as_bytes() == path.as_slice() => content.clone(),
                    _ => self.blob(entry.id)?,
                };
                self.put_pending()?;
                self.put(
                    EntryType::Regular,
                    &self.placed(path),
                    if executable { 0o755 } else { 0o644 },
                    &content,
                )
            }
        }
    }

    fn inner_folder(&mut self, tree: Oid, path: &mut Vec<u8>) -> Result<(), Trouble> {
        let depth = self.pending.len();
        self.pending.push(self.placed(path));
        self.folder(tree, path)?;
        // Still there if nothing in it was written.
        self.pending.truncate(depth);
        Ok(())
    }

    /// Whether a file or link stays out of the build context.
    fn is_left_out(&self, path: &[u8]) -> bool {
        match self.recipe {
            // The builder needs these whatever the patterns say.
            Recipe::Own {
                path: dockerfile, ..
            } if path == dockerfile.as_str().as_bytes() || path == b".dockerignore" => false,
            // How it is deployed is not for visitors.
            Recipe::BuiltIn {
                lang: Lang::Static, ..
            } if FILE_NAMES.iter().any(|name| path == name.as_bytes())
                || path == b".dockerignore"
                || path == b".gitmodules" =>
            {
                true
            }
            _ => self.plan.ignore.leaves_out(path),
        }
    }

    /// Where a path of the repository stands in the tar.
    fn placed(&self, path: &[u8]) -> Vec<u8> {
        match self.recipe {
            Recipe::Own { .. } => path.to_vec(),
            Recipe::BuiltIn { .. } => [builtin::FOLDER.as_bytes(), path].join(&b'/'),
        }
    }

    fn blob(&self, id: Oid) -> Result<Vec<u8>, Trouble> {
        let content = tree::blob(&self.odb, id, self.file_limit)?;
        content.ok_or_else(|| {
            FetchError::too_large(format!("a file has more than {} bytes", self.file_limit)).into()
        })
    }

    fn put_pending(&mut self) -> Result<(), Trouble> {
        for folder in std::mem::take(&mut self.pending) {
            self.put(EntryType::Directory, &folder, 0o755, b"")?;
        }
        Ok(())
    }

    /// Writes one entry; `content` is the target of a link.
    fn put(
        &mut self,
        kind: EntryType,
        path: &[u8],
        mode: u32,
        content: &[u8],
    ) -> Result<(), Trouble> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.plan.time);
        header.set_size(0);
        let path = Path::new(OsStr::from_bytes(path));
        if kind == EntryType::Symlink {
            if content.is_empty() || content.contains(&0) {
                return Err(FetchError::failed(format!(
                    "the symbolic link `{}` has no target",
                    path.display()
                ))
                .into());
            }
            self.tar
                .append_link(&mut header, path, OsStr::from_bytes(content))
                .map_err(disk)?;
        } else {
            header.set_size(content.len() as u64);
            self.tar
                .append_data(&mut header, path, content)
                .map_err(disk)?;
        }
        self.entries += 1;
        self.meter.step();
        Ok(())
    }
}
