//! The node's own directory: made private, locked, and free of leftovers.

use crate::error::StartError;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The node's own directory, locked as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    // The lock goes with the process, however that ends.
    _lock: File,
}

impl StateDir {
    /// Makes the directory when it is not there, locks it and removes what actions of an earlier
    /// process left in it. Blocks.
    ///
    /// # Errors
    /// [`StartError::StateDirInUse`] or [`StartError::StateDir`].
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let refuse = |what| {
            move |source| StartError::StateDir {
                path: path.to_owned(),
                what,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(refuse("making it"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(refuse("making it private"))?;
        let lock_path = path.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_path)
            .map_err(refuse("opening its lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::StateDirInUse {
                    path: path.to_owned(),
                    holder: holder(&mut lock),
                });
            }
            Err(TryLockError::Error(source)) => return Err(refuse("locking it")(source)),
        }
        lock.set_len(0).map_err(refuse("writing to it"))?;
        writeln!(lock, "{}", std::process::id()).map_err(refuse("writing to it"))?;
        let state_dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        state_dir
            .clear_work()
            .map_err(refuse("removing what an earlier process left"))?;
        Ok(state_dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's file.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.redb")
    }

    /// Where mirrors of repositories are kept.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.path.join("mirrors")
    }

    /// A directory for the files of one action, removed when it is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn work_dir(&self, name: &str) -> std::io::Result<WorkDir> {
        let path = self.work().join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(WorkDir { path })
    }

    fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    fn clear_work(&self) -> std::io::Result<()> {
        let work = self.work();
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir(&work)
    }
}

fn holder(lock: &mut File) -> Option<String> {
    let mut text = String::new();
    // Only to name it: who holds the lock is known by the lock alone.
    lock.take(32).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then(|| pid.to_owned())
}

/// A directory for the files of one action.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            // The next start removes it.
            tracing::warn!(path = %self.path.display(), %error, "an action's directory could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_told_who_has_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = StateDir::open(&path).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn it_is_private_and_free_of_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state_dir = StateDir::open(&path).unwrap();
        let work = state_dir.work_dir("a").unwrap();
        fs::write(work.path().join("context.tar"), "x").unwrap();
        std::mem::forget(work);
        drop(state_dir);
        let state_dir = StateDir::open(&path).unwrap();
        assert_eq!(fs::read_dir(path.join("work")).unwrap().count(), 0);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let kept = state_dir.work_dir("b").unwrap().path().to_owned();
        assert!(!kept.exists(), "it goes when the action ends");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_clear_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        let error = StateDir::open(&path.join("state")).unwrap_err();
        assert!(error.to_string().contains("making it"), "{error}");
    }
}
