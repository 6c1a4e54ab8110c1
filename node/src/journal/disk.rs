//! The file behind the journal, and the thread that writes it.
//!
//! One thread owns the file. It takes every change that waits, writes them in one transaction and
//! answers all of them once the disk has it: many callers share one flush. A write that fails is
//! tried again until it succeeds, since what is in memory is ahead of the file and must not be
//! forgotten; meanwhile nobody is told that anything is safe, so nothing is acknowledged.

use super::JournalError;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What is cached of the file, in bytes: everything needed is in memory anyway.
const CACHE_BYTES: usize = 1 << 20;

/// The time between two tries to write.
const RETRY: Duration = Duration::from_millis(500);

/// A table of the file. Keys sort in the order that matters to each; values are JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    Work,
    Done,
    Reports,
    Standings,
    Deployments,
    Destroyed,
    Leaving,
    Meta,
}

impl Room {
    const ALL: [Self; 8] = [
        Self::Work,
        Self::Done,
        Self::Reports,
        Self::Standings,
        Self::Deployments,
        Self::Destroyed,
        Self::Leaving,
        Self::Meta,
    ];

    const fn table(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::Work => "work",
            Self::Done => "done",
            Self::Reports => "reports",
            Self::Standings => "standings",
            Self::Deployments => "deployments",
            Self::Destroyed => "destroyed",
            Self::Leaving => "leaving",
            Self::Meta => "meta",
        })
    }
}

/// One row put, or removed when `value` is none. Doing it twice is doing it once.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) room: Room,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// Changes that belong together.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) ops: Vec<Op>,
    /// The number after the last report that is in the journal once this is written.
    pub(super) reports_until: u64,
    /// Told when it is on the disk.
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    Write(Commit),
    /// Write what came before, close the file and say so.
    Close(oneshot::Sender<()>),
}

/// What the writer of a journal takes and says.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    /// The number after the last report that is on the disk.
    pub(super) durable_reports: watch::Sender<u64>,
    /// Why nothing can be written now.
    pub(super) trouble: watch::Sender<Option<String>>,
}

/// Changes that are written together, and whether the file is closed after them.
pub(super) struct Batch {
    pub(super) commits: Vec<Commit>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// The order that came first, with everything that waits behind it.
    pub(super) fn batch(&mut self, first: Order) -> Batch {
        let mut batch = Batch {
            commits: Vec::new(),
            close: None,
        };
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Write(commit) => batch.commits.push(commit),
                Order::Close(closed) => {
                    batch.close = Some(closed);
                    break;
                }
            }
            next = self.orders.try_recv().ok();
        }
        batch
    }

    /// Says that these changes are safe, to everybody who waits for it.
    pub(super) fn written(&self, commits: Vec<Commit>) {
        self.trouble
            .send_if_modified(|known| known.take().is_some());
        if let Some(reports_until) = commits.last().map(|commit| commit.reports_until) {
            self.durable_reports
                .send_if_modified(|until| std::mem::replace(until, reports_until) != reports_until);
        }
        for done in commits.into_iter().filter_map(|commit| commit.done) {
            // A caller that was cancelled no longer waits for the answer.
            let _ = done.send(());
        }
    }
}

/// One row as it was read.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// The open file.
pub(super) struct Disk {
    path: PathBuf,
    database: Option<Database>,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let mut disk = Self {
            path: path.to_owned(),
            database: None,
        };
        disk.write(&[])?;
        Ok(disk)
    }

    /// Every row of a table, in the order of its keys.
    pub(super) fn rows(&mut self, room: Room) -> Result<Vec<Row>, JournalError> {
        let transaction = self.database()?.begin_read().map_err(redb::Error::from)?;
        let table = transaction
            .open_table(room.table())
            .map_err(redb::Error::from)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(redb::Error::from)? {
            let (key, value) = row.map_err(redb::Error::from)?;
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    }

    /// Writes changes so that they outlive the machine.
    fn write(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        let mut transaction = self.database()?.begin_write().map_err(redb::Error::from)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(redb::Error::from)?;
        for room in Room::ALL {
            let mut table = transaction
                .open_table(room.table())
                .map_err(redb::Error::from)?;
            for op in ops.iter().filter(|op| op.room == room) {
                match &op.value {
                    Some(value) => table.insert(op.key.as_slice(), value.as_slice()).map(drop),
                    None => table.remove(op.key.as_slice()).map(drop),
                }
                .map_err(redb::Error::from)?;
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }

    /// The database, opened again when a failure closed it: after an input or output error it
    /// answers nothing else until then.
    fn database(&mut self) -> Result<&Database, JournalError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&self.path)
                .map_err(redb::Error::from)?,
        };
        Ok(self.database.insert(database))
    }
}

/// Writes what is sent until it is told to close or every sender is gone.
pub(super) fn run(mut disk: Disk, mut writer: Writer) {
    while let Some(first) = writer.orders.blocking_recv() {
        let Batch { commits, close } = writer.batch(first);
        shared::fail_point!("node::journal::before_write");
        write_until_safe(&mut disk, commits, &writer);
        if let Some(closed) = close {
            drop(disk);
            // Whoever asked may have gone: the file is closed all the same.
            let _ = closed.send(());
            return;
        }
    }
}

fn write_until_safe(disk: &mut Disk, mut commits: Vec<Commit>, writer: &Writer) {
    if commits.is_empty() {
        return;
    }
    let trouble = &writer.trouble;
    let ops: Vec<Op> = commits
        .iter_mut()
        .flat_map(|commit| std::mem::take(&mut commit.ops))
        .collect();
    while let Err(error) = disk.write(&ops) {
        disk.database = None;
        let reason = format!("the journal cannot be written: {}", chain(&error));
        let is_news = trouble.send_if_modified(|known| {
            let is_news = known.as_ref() != Some(&reason);
            *known = Some(reason.clone());
            is_news
        });
        if is_news {
            tracing::error!(%reason, "trying again until it can");
        }
        // Every handle is gone: nobody waits for this any more, and the process is ending.
        if trouble.is_closed() {
            return;
        }
        std::thread::sleep(RETRY);
    }
    writer.written(commits);
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
