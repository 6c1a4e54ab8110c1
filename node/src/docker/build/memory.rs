//! A memory limit for builds that BuildKit itself does not keep.
//!
//! An engine with the `cgroupfs` driver runs all processes of all its BuildKit builds below one
//! control group, `docker/buildkit`. A node with the right to write there limits that group: to
//! the sum of what its builds under way may use, and to nothing once none is under way. A build
//! beyond it is killed by the kernel; the largest process goes first, which is the hungry one.

use crate::docker::info::CgroupDriver;
use shared::spec::ByteSize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How the memory limit of a build is kept.
#[derive(Debug)]
pub(super) enum MemoryLimit {
    /// There is none; BuildKit builds.
    None,
    /// By the classic builder, when there is one.
    Classic(Option<ByteSize>),
    /// By BuildKit's control group, as long as this is held.
    ControlGroup(MemoryGuard),
}

impl MemoryLimit {
    pub(super) fn bytes(&self) -> Option<ByteSize> {
        match self {
            Self::None => None,
            Self::Classic(limit) => *limit,
            Self::ControlGroup(guard) => Some(guard.limit),
        }
    }
}

/// The control group of BuildKit's processes, shared by all builds of an engine.
#[derive(Clone, Debug, Default)]
pub(in crate::docker) struct BuilderMemory {
    /// What the builds under way may use together.
    promised: Arc<Mutex<u64>>,
}

impl BuilderMemory {
    /// Raises the group's limit by `limit` as long as the guard is held.
    ///
    /// # Errors
    /// In words, why the group cannot be limited from here.
    pub(super) fn limit(
        &self,
        driver: CgroupDriver,
        local: bool,
        limit: ByteSize,
    ) -> Result<MemoryGuard, String> {
        if driver != CgroupDriver::Cgroupfs || !local {
            return Err("the engine's control groups are not in reach".to_owned());
        }
        let group = Group::find().ok_or("no control groups for memory on this host")?;
        self.limit_group(group, limit)
    }

    fn limit_group(&self, group: Group, limit: ByteSize) -> Result<MemoryGuard, String> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let total = promised.saturating_add(limit.0);
        group
            .set(Some(total))
            .map_err(|error| format!("{}: {error}", group.dir.display()))?;
        *promised = total;
        Ok(MemoryGuard {
            memory: self.clone(),
            group,
            limit,
        })
    }
}

/// Holds a build's share of the limit.
#[derive(Debug)]
pub(super) struct MemoryGuard {
    memory: BuilderMemory,
    group: Group,
    limit: ByteSize,
}

impl Drop for MemoryGuard {
    fn drop(&mut self) {
        let mut promised = self
            .memory
            .promised
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *promised = promised.saturating_sub(self.limit.0);
        let left = (*promised > 0).then_some(*promised);
        // A group that still uses more than is left keeps the higher limit until the next build.
        if let Err(error) = self.group.set(left) {
            tracing::debug!(%error, "the builder's memory limit stays as it is");
        }
    }
}

/// A control group directory of either version.
#[derive(Debug)]
struct Group {
    dir: PathBuf,
    limit_file: &'static str,
    /// With swap for version 1, without for version 2.
    swap_file: &'static str,
    unlimited: &'static str,
}

const BUILDERS: &str = "docker/buildkit";

impl Group {
    fn find() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            return Some(Self::v2(root.join(BUILDERS)));
        }
        root.join("memory/memory.limit_in_bytes")
            .exists()
            .then(|| Self::v1(root.join("memory").join(BUILDERS)))
    }

    fn v1(dir: PathBuf) -> Self {
        Self {
            dir,
            limit_file: "memory.limit_in_bytes",
            swap_file: "memory.memsw.limit_in_bytes",
            unlimited: "-1",
        }
    }

    fn v2(dir: PathBuf) -> Self {
        Self {
            dir,
            limit_file: "memory.max",
            swap_file: "memory.swap.max",
            unlimited: "max",
        }
    }

    fn set(&self, limit: Option<u64>) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let text = limit.map_or_else(|| self.unlimited.to_owned(), |bytes| bytes.to_string());
        // Version 1 counts memory and swap together and wants that sum never below the limit: out of
        // the way first, then down to it. Kernels without swap accounting have no such file.
        self.set_swap(self.unlimited);
        std::fs::write(self.dir.join(self.limit_file), &text)?;
        self.set_swap(if self.limit_file == "memory.max" {
            "0"
        } else {
            &text
        });
        Ok(())
    }

    fn set_swap(&self, text: &str) {
        if let Err(error) = std::fs::write(self.dir.join(self.swap_file), text) {
            tracing::debug!(%error, "swap of builds is not limited");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_sum_of_the_builds_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let memory = BuilderMemory::default();
        let read = || std::fs::read_to_string(dir.path().join("b/memory.max")).unwrap();
        let first = memory
            .limit_group(Group::v2(dir.path().join("b")), ByteSize(100))
            .unwrap();
        let second = memory
            .limit_group(Group::v2(dir.path().join("b")), ByteSize(50))
            .unwrap();
        assert_eq!(read(), "150");
        drop(first);
        assert_eq!(read(), "50");
        drop(second);
        assert_eq!(read(), "max");
    }
}
