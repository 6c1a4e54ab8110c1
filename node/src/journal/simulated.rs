//! A journal over a disk that exists in memory and outlives the node.
//!
//! What was answered is on the disk; what was not is lost when the node dies, since its gate then
//! lets nothing pass any more.

use super::disk::{Batch, Op, Room, Row, Writer};
use super::{Journal, JournalError, load};
use shared::simulation::{Effect, Gate};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The time between two tries to write.
const RETRY: Duration = Duration::from_millis(500);

/// Rows by their room and key.
type Rows = BTreeMap<(Room, Vec<u8>), Vec<u8>>;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    rows: Arc<Mutex<Rows>>,
}

impl SimulatedDisk {
    /// Everything on it is gone.
    pub fn wipe(&self) {
        self.rows().clear();
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, room: Room) -> Vec<Row> {
        let rows = self.rows();
        let of_room = rows.iter().filter(|((of, _), _)| *of == room);
        of_room
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }

    fn write(&self, ops: &mut Vec<Op>) {
        let mut rows = self.rows();
        for Op { room, key, value } in ops.drain(..) {
            match value {
                Some(value) => rows.insert((room, key), value),
                None => rows.remove(&(room, key)),
            };
        }
    }
}

impl Journal {
    /// Opens the journal of one life of a node. Needs a runtime.
    ///
    /// # Errors
    /// [`JournalError`] when a row does not read.
    pub fn simulated(disk: SimulatedDisk, gate: Arc<dyn Gate>) -> Result<Self, JournalError> {
        let (journal, writer) = Self::over(load(|room| Ok(disk.room(room)))?);
        tokio::spawn(run(disk, gate, writer));
        Ok(journal)
    }
}

async fn run(disk: SimulatedDisk, gate: Arc<dyn Gate>, mut writer: Writer) {
    while let Some(first) = writer.orders.recv().await {
        let Batch { mut commits, close } = writer.batch(first);
        if !commits.is_empty() {
            while gate.pass(Effect::Disk).await.is_err() {
                let full = "the journal cannot be written: it is simulated to be full";
                writer.trouble.send_replace(Some(full.to_owned()));
                tokio::time::sleep(RETRY).await;
            }
            for commit in &mut commits {
                disk.write(&mut commit.ops);
            }
            // It is on the disk: no error can come after that, only the end of the process.
            let _ = gate.pass(Effect::DiskWritten).await;
            writer.written(commits);
        }
        if let Some(closed) = close {
            // Whoever asked may have gone.
            let _ = closed.send(());
            return;
        }
    }
}
