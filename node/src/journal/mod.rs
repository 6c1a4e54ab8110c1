//! The journal: what must survive the end of this process.
//!
//! Accepted work, unsent reports, how far each revision's reports have come and what runs. All of
//! it is in memory for reading; every change goes to a file before anybody relies on it. A work
//! request is acknowledged only once it is here, and a report is sent only once it is here, so that
//! a node that is killed neither forgets an order nor says two different things under one number.

mod destruction;
mod disk;
mod draft;
mod picture;
mod record;
#[cfg(feature = "simulation")]
mod simulated;

pub use draft::{Acceptance, Draft, StepReport};
pub use picture::given;
pub use record::{Attempt, DeploymentRecord, RunningRevision, RunningService, Standing, WorkEntry};
#[cfg(feature = "simulation")]
pub use simulated::SimulatedDisk;

use disk::{Commit, Disk, Order, Room, Row, Writer};
use shared::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use shared::message::{NodeReport, WorkAction};
use shared::source::{CommitId, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("the journal's file")]
    File(#[from] redb::Error),
    /// A row does not read: damage, or a newer release wrote it.
    #[error("the journal's table {table} has a row that does not read")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The journal was closed: the process is ending.
    #[error("the journal is closed")]
    Closed,
}

/// Everything that the journal remembers.
#[derive(Debug, Default)]
pub struct State {
    /// The store that work came from last.
    pub store: Option<StoreIncarnation>,
    /// Unfinished work by its arrival.
    pub work: BTreeMap<u64, WorkEntry>,
    /// Finished work, by the order of finishing, and the other way round.
    done: BTreeMap<u64, WorkId>,
    done_ids: BTreeSet<WorkId>,
    /// Unsent reports, in the order of sending.
    reports: BTreeMap<u64, NodeReport>,
    /// How far each revision's reports have come.
    pub standings: BTreeMap<RevisionId, Standing>,
    /// What this node has of each deployment.
    pub deployments: BTreeMap<DeploymentId, DeploymentRecord>,
    /// Deployments that are gone for good.
    destroyed: BTreeSet<DeploymentId>,
    /// Deployments of which everything but volumes is being removed, since none of their revisions
    /// is assigned here: so that their end is said, also by the next process.
    pub leaving: BTreeSet<DeploymentId>,
    /// What the last picture assigned to this node; not in the file, for the next process is told
    /// anew.
    assigned: Option<picture::AssignedHere>,
    next_arrival: u64,
    next_done: u64,
    next_report: u64,
}

/// A handle to the journal; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    // Not bounded by itself: every sender but the outbox waits for its answer, and those are as
    // many as actions run and deliveries are prefetched.
    orders: mpsc::UnboundedSender<Order>,
    durable_reports: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<String>>,
}

impl Journal {
    /// Opens the journal, making it when there is none, and reads all of it. Blocks.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be used or does not read.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut disk = Disk::open(path)?;
        let (journal, writer) = Self::over(load(|room| disk.rows(room))?);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || disk::run(disk, writer))
            .map_err(|error| JournalError::File(redb::Error::Io(error)))?;
        Ok(journal)
    }

    /// A journal that remembers `state`, and what whoever writes it needs.
    fn over(state: State) -> (Self, Writer) {
        let (orders, waiting) = mpsc::unbounded_channel();
        let (durable, durable_reports) = watch::channel(state.next_report);
        let (trouble_out, trouble) = watch::channel(None);
        let shared = Shared {
            state: Mutex::new(state),
            orders,
            durable_reports,
            trouble,
        };
        let writer = Writer {
            orders: waiting,
            durable_reports: durable,
            trouble: trouble_out,
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            writer,
        )
    }

    /// Looks at what is remembered. Short: nothing else can look or change meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// Changes what is remembered, all of it or nothing, and returns once it is on the disk.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the process is ending.
    pub async fn change<T>(
        &self,
        change: impl FnOnce(&mut Draft<'_>) -> T,
    ) -> Result<T, JournalError> {
        let (done, written) = oneshot::channel();
        let result = self.write(change, Some(done))?;
        written.await.map_err(|_| JournalError::Closed)?;
        Ok(result)
    }

    /// Like [`Journal::change`] for what may be forgotten: it is written soon, and nobody waits.
    ///
    /// # Errors
    /// [`JournalError::Closed`] when the process is ending.
    pub fn change_soon<T>(
        &self,
        change: impl FnOnce(&mut Draft<'_>) -> T,
    ) -> Result<T, JournalError> {
        self.write(change, None)
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&mut Draft<'_>) -> T,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<T, JournalError> {
        let mut state = self.state();
        let mut draft = Draft::new(&mut state);
        let result = change(&mut draft);
        let ops = draft.into_ops();
        // Sent while the state is locked, so that the file sees changes in the order of memory.
        let commit = Commit {
            ops,
            reports_until: state.next_report,
            done,
        };
        self.shared
            .orders
            .send(Order::Write(commit))
            .map_err(|_| JournalError::Closed)?;
        Ok(result)
    }

    /// The oldest reports that are safe here and not sent, with their numbers, at most `limit`.
    #[must_use]
    pub fn unsent(&self, limit: usize) -> Vec<(u64, NodeReport)> {
        let durable = *self.shared.durable_reports.borrow();
        self.read(|state| {
            state
                .reports
                .range(..durable)
                .take(limit)
                .map(|(number, report)| (*number, report.clone()))
                .collect()
        })
    }

    /// Hears of every report that became safe.
    #[must_use]
    pub fn durable_reports(&self) -> watch::Receiver<u64> {
        self.shared.durable_reports.clone()
    }

    /// Why the journal cannot be written now, and every change of that.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.clone()
    }

    /// Writes what is left and closes the file. Changes fail from now on.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.shared.orders.send(Order::Close(closed)).is_ok() {
            // An error means that the writer ended before it read this: it is closed as well.
            let _ = done.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held cannot have left half a change: drafts only insert and remove.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Unfinished work in the order of arrival.
    pub fn unfinished(&self) -> impl Iterator<Item = &WorkEntry> {
        self.work.values()
    }

    /// What a deployment action is about, and the commit once that is known.
    pub(crate) fn version_of(&self, arrival: u64) -> Option<(Source, Option<CommitId>)> {
        match &self.work.get(&arrival)?.request.action {
            WorkAction::Deploy(work) => Some((work.source.clone(), work.commit.clone())),
            _ => None,
        }
    }

    /// How many reports wait to be sent.
    #[must_use]
    pub fn unsent_count(&self) -> usize {
        self.reports.len()
    }
}

fn load(
    mut rows: impl FnMut(Room) -> Result<Vec<Row>, JournalError>,
) -> Result<State, JournalError> {
    let mut state = State::default();
    for (key, value) in rows(Room::Work)? {
        state.work.insert(number(&key), parse("work", &value)?);
    }
    for (key, value) in rows(Room::Done)? {
        let id = parse("done", &value)?;
        state.done.insert(number(&key), id);
        state.done_ids.insert(id);
    }
    for (key, value) in rows(Room::Reports)? {
        state
            .reports
            .insert(number(&key), parse("reports", &value)?);
    }
    for (_, value) in rows(Room::Standings)? {
        let (revision_id, standing) = parse("standings", &value)?;
        state.standings.insert(revision_id, standing);
    }
    for (_, value) in rows(Room::Deployments)? {
        let record: DeploymentRecord = parse("deployments", &value)?;
        state.deployments.insert(record.deployment_id, record);
    }
    for (_, value) in rows(Room::Destroyed)? {
        state.destroyed.insert(parse("destroyed", &value)?);
    }
    for (_, value) in rows(Room::Leaving)? {
        state.leaving.insert(parse("leaving", &value)?);
    }
    for (key, value) in rows(Room::Meta)? {
        if key == draft::STORE_KEY {
            state.store = Some(parse("meta", &value)?);
        }
    }
    state.next_arrival = after(&state.work);
    state.next_done = after(&state.done);
    state.next_report = after(&state.reports);
    Ok(state)
}

fn after<T>(rows: &BTreeMap<u64, T>) -> u64 {
    rows.last_key_value().map_or(0, |(last, _)| last + 1)
}

fn number(key: &[u8]) -> u64 {
    // Keys of these tables are written as eight bytes; anything else is damage and sorts last.
    key.try_into().map_or(u64::MAX, u64::from_be_bytes)
}

fn parse<T: serde::de::DeserializeOwned>(
    table: &'static str,
    value: &[u8],
) -> Result<T, JournalError> {
    serde_json::from_slice(value).map_err(|source| JournalError::Row { table, source })
}

#[cfg(test)]
mod tests;
