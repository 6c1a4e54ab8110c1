//! What processes used, from `/proc`: processor time, and memory as proportional set size.

use anyhow::{Context, Result};
use std::fs::read_to_string;

/// The kernel's unit of processor time for user space: `USER_HZ`, a hundredth of a second everywhere.
const TICK_US: f64 = 10_000.0;

/// The processes whose use is told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processes {
    pub(super) broker: u32,
    /// The postmaster: its children count with it.
    pub(super) database: u32,
    pub(super) orchestrator: u32,
}

/// Processor time so far, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) broker: f64,
    pub(super) database: f64,
    pub(super) orchestrator: f64,
    /// This process: the clients and the simulated nodes.
    pub(super) bench: f64,
}

impl Processes {
    pub(super) fn used(self) -> Result<Used> {
        Ok(Used {
            broker: own(self.broker)?,
            database: family(self.database)?,
            orchestrator: if self.orchestrator == 0 {
                0.0
            } else {
                own(self.orchestrator)?
            },
            bench: own(std::process::id())?,
        })
    }
}

impl Used {
    /// What was used since `before`, for each of `count`.
    pub(super) fn since(self, before: Self, count: usize) -> Self {
        let each = |now: f64, then: f64| (now - then) / count as f64;
        Self {
            broker: each(self.broker, before.broker),
            database: each(self.database, before.database),
            orchestrator: each(self.orchestrator, before.orchestrator),
            bench: each(self.bench, before.bench),
        }
    }
}

/// The numbers of `/proc/<pid>/stat` behind the name, which may hold anything.
fn stat(pid: u32) -> Result<Vec<u64>> {
    let text = read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("a process's stat")?;
    Ok(fields
        .split(' ')
        .skip(1)
        .map(|field| field.trim().parse().unwrap_or(0))
        .collect())
}

/// Index of `ppid` among [`stat`]'s numbers, and of user and system time: its own, then its reaped children's.
const PARENT: usize = 0;
const TIMES: usize = 10;

fn own(pid: u32) -> Result<f64> {
    Ok(stat(pid)?[TIMES..TIMES + 2].iter().sum::<u64>() as f64 * TICK_US)
}

fn family(pid: u32) -> Result<f64> {
    let mut ticks: u64 = stat(pid)?[TIMES..TIMES + 4].iter().sum();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // One that ended while we looked is counted with its parent next time.
        let child = name.to_str().and_then(|name| name.parse().ok()).map(stat);
        if let Some(Ok(child)) = child
            && child[PARENT] == u64::from(pid)
        {
            ticks += child[TIMES..TIMES + 2].iter().sum::<u64>();
        }
    }
    Ok(ticks as f64 * TICK_US)
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Result<u32> {
    Ok(u32::try_from(stat(pid)?[PARENT])?)
}
