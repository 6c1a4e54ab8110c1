//! Where repositories are kept on the node: one bare mirror per URL, with its submodules' objects
//! in it, so that the next fetch receives only what is new.
//!
//! ```text
//! <mirror_dir>/<hash of the URL>.git    the mirror
//! <mirror_dir>/<hash of the URL>.lock   held alone while fetching, shared while reading
//! <mirror_dir>/home-…                   an empty home for one child process
//! ```
//!
//! A mirror is a cache: it may be removed at any time by whoever holds its lock alone.

use sha2::{Digest, Sha256};
use shared::source::GitUrl;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SCRATCH: &str = "home-";

/// The mirror's directory.
pub(super) fn path(mirror_dir: &Path, url: &GitUrl) -> PathBuf {
    mirror_dir.join(format!("{}.git", key(url)))
}

/// Which mirror, and a name for a URL inside refs: half a SHA-256 of it.
pub(super) fn key(url: &GitUrl) -> String {
    hex::encode(&Sha256::digest(url.as_str())[..16])
}

/// An empty directory for one child process.
pub(super) fn scratch(mirror_dir: &Path) -> io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(mirror_dir)?;
    tempfile::Builder::new()
        .prefix(SCRATCH)
        .tempdir_in(mirror_dir)
}

/// Locks the mirror for this process alone, calling `waiting` once when another holds it.
pub(super) fn lock(mirror_dir: &Path, url: &GitUrl, mut waiting: impl FnMut()) -> io::Result<File> {
    let path = lock_path(mirror_dir, url);
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if is_lock(&file, &path)? {
            return Ok(file);
        }
    }
}

/// Who removes a mirror removes its lock file too: what is held may be a lock on nothing.
fn is_lock(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(now) => Ok(now.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock_path(mirror_dir: &Path, url: &GitUrl) -> PathBuf {
    mirror_dir.join(format!("{}.lock", key(url)))
}

/// Removes the mirror of a URL that no deployment uses any more. Waits for fetches under way.
///
/// # Errors
/// What the file system says; a mirror that is not there is no error.
pub async fn remove(mirror_dir: &Path, url: &GitUrl) -> io::Result<()> {
    let (mirror_dir, url) = (mirror_dir.to_owned(), url.clone());
    let removal = move || {
        if !path(&mirror_dir, &url).exists() && !lock_path(&mirror_dir, &url).exists() {
            return Ok(());
        }
        let lock = lock(&mirror_dir, &url, || {})?;
        remove_dir(&path(&mirror_dir, &url))?;
        std::fs::remove_file(lock_path(&mirror_dir, &url))?;
        lock.unlock()
    };
    tokio::task::spawn_blocking(removal)
        .await
        .map_err(io::Error::other)?
}

/// Removes what children of a node that was killed left behind. Call it before the first fetch.
///
/// # Errors
/// What the file system says; a directory that is not there is no error.
pub fn sweep(mirror_dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(mirror_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(SCRATCH.as_bytes())
        {
            remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

/// A mirror with more packs than this is fetched afresh: each fetch adds one, and every look-up
/// asks them all.
const PACK_LIMIT: usize = 64;

/// A mirror that holds more than this many times what one fetch may receive is fetched afresh:
/// nothing that a server forgot is ever taken out of it.
const FETCHES_KEPT: u64 = 2;

/// What is in a mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packs {
    /// How many there are.
    count: usize,
    /// Their bytes, with those of their indices.
    bytes: u64,
}

impl Packs {
    /// Whether the mirror is better fetched afresh, where a fetch may receive `received_bytes`.
    pub(super) fn are_too_much(self, received_bytes: u64) -> bool {
        self.count > PACK_LIMIT || self.bytes > received_bytes.saturating_mul(FETCHES_KEPT)
    }
}

/// Removes what a fetch that was killed left in the mirror, and counts its packs. Its lock must be
/// held alone.
pub(super) fn tidy(mirror: &Path) -> io::Result<Packs> {
    let entries = match std::fs::read_dir(mirror.join("objects/pack")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Packs::default()),
        entries => entries?,
    };
    let mut packs = Packs::default();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("pack") => packs.count += 1,
            Some("idx") => {}
            _ => {
                std::fs::remove_file(path)?;
                continue;
            }
        }
        packs.bytes = packs.bytes.saturating_add(entry.metadata()?.len());
    }
    Ok(packs)
}

/// Gives back the disk after a fetch that failed: what was half received, and a mirror without
/// anything in it. Leaves a mirror alone that another process uses.
pub(super) async fn tidy_after_failure(mirror_dir: &Path, url: &GitUrl) -> io::Result<()> {
    let (mirror_dir, url) = (mirror_dir.to_owned(), url.clone());
    let tidying = move || {
        let mirror = path(&mirror_dir, &url);
        let lock_path = lock_path(&mirror_dir, &url);
        let lock = match OpenOptions::new().write(true).open(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lock => lock?,
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if is_lock(&lock, &lock_path)? && tidy(&mirror)?.count == 0 {
            remove_dir(&mirror)?;
            std::fs::remove_file(&lock_path)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(tidying)
        .await
        .map_err(io::Error::other)?
}

/// Removes a directory with all in it; one that is not there is fine.
pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_measured_by_its_packs_and_their_bytes() {
        let mirror = tempfile::tempdir().unwrap();
        assert_eq!(tidy(mirror.path()).unwrap(), Packs::default());
        let packs = mirror.path().join("objects/pack");
        std::fs::create_dir_all(&packs).unwrap();
        for (name, bytes) in [("a.pack", 1000), ("a.idx", 100), ("pack_x", 5000)] {
            std::fs::write(packs.join(name), vec![0; bytes]).unwrap();
        }
        let found = tidy(mirror.path()).unwrap();
        assert_eq!((found.count, found.bytes), (1, 1100));
        assert!(!packs.join("pack_x").exists(), "a fetch that was killed");
        assert!(!found.are_too_much(550));
        assert!(found.are_too_much(549));
        let many = Packs {
            count: PACK_LIMIT + 1,
            bytes: 0,
        };
        assert!(many.are_too_much(u64::MAX));
    }
}
