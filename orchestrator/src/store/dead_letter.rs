//! Dead letters: recorded once, bounded, put back or dropped.

use super::column::{Time, now};
use super::entity::dead_letter;
use super::report::clean;
use super::{Store, StoreError, Tx};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait, FromQueryResult};
use sha2::{Digest, Sha256};
use shared::id::DeadLetterId;
use shared::message::BODY_LIMIT;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How many dead letters are kept, and how many bytes of them: the oldest go first.
pub const DEAD_LETTERS_KEPT: i64 = 10_000;
const BYTES_KEPT: i64 = 256 * 1024 * 1024;
/// How long a message that was put back is known again.
const RETURNED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a reason is kept, and of what names something, in bytes.
const REASON_LIMIT: usize = 4096;
const NAME_LIMIT: usize = 256;
const MESSAGE_LIMIT: usize = 128;

/// A message that nobody could handle.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// Tells it from every other one.
    pub message: String,
    /// The queue that it came from.
    pub queue: String,
    /// Why.
    pub reason: String,
    /// Who sent it.
    pub sender: Option<String>,
    /// How often it was delivered.
    pub deliveries: Option<u32>,
    /// When it died.
    pub died_at: Option<Time>,
    /// What was sent.
    pub body: Vec<u8>,
    /// It may be put back, if it was not before.
    pub may_return: bool,
}

/// What became of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLettersRecorded {
    /// Those that are to be sent to their queues again, by their place in what was given.
    pub returned: Vec<usize>,
    /// Those that are kept and were not before.
    pub kept: Vec<usize>,
    /// How many older ones had to go.
    pub dropped: u64,
}

/// A kept message that can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    /// The queue that it came from.
    pub queue: String,
    /// What was sent; nothing when only its beginning was kept.
    pub body: Option<Vec<u8>>,
}

#[derive(FromQueryResult)]
struct Known {
    message: String,
    is_returned: bool,
}

#[derive(FromQueryResult)]
struct Trace {
    id: DeadLetterId,
    digest: String,
    queue: String,
}

impl Store {
    /// Records dead letters, each once however often it is given. One that may return and did not
    /// before is to be put back by the caller, after this: it is told so until it has answered the
    /// delivery.
    ///
    /// # Errors
    /// [`StoreError`]; then none was recorded.
    pub async fn dead_letters_record(
        &self,
        letters: &[NewDeadLetter],
    ) -> Result<DeadLettersRecorded, StoreError> {
        let mut recorded = DeadLettersRecorded::default();
        if letters.is_empty() {
            return Ok(recorded);
        }
        let tx = self.write().await?;
        let mut rows: Vec<_> = letters.iter().map(row).collect();
        let known = known(&tx, &rows).await?;
        let traces = traces(&tx, &rows).await?;
        let mut spent = Vec::new();
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        for (index, (row, letter)) in rows.drain(..).zip(letters).enumerate() {
            let is_first = seen.insert(row.message.clone());
            match known.get(&row.message) {
                // The process that recorded it may have ended before it was put back.
                Some(true) => recorded.returned.push(index),
                Some(false) => {}
                None if !is_first => {}
                None => {
                    let trace = traces.get(&(row.digest.clone(), row.queue.clone()));
                    spent.extend(trace);
                    let returns = letter.may_return && trace.is_none();
                    if returns {
                        recorded.returned.push(index);
                    } else {
                        recorded.kept.push(index);
                    }
                    let returned_at = returns.then_some(row.recorded_at);
                    new.push(dead_letter::Model { returned_at, ..row });
                }
            }
        }
        insert(&tx, new).await?;
        recorded.dropped = prune(&tx, &spent).await?;
        tx.commit().await?;
        Ok(recorded)
    }

    /// Keeps a message that could not be put back: its queue is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letter_keep(&self, message: &str) -> Result<(), StoreError> {
        let tx = self.write().await?;
        tx.sql("UPDATE dead_letters SET returned_at = NULL WHERE message = ")
            .bind(clean(message, MESSAGE_LIMIT))
            .run(&*tx)
            .await?;
        tx.commit().await
    }

    /// Reads a kept message, to be sent again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letter_message(
        &self,
        id: DeadLetterId,
    ) -> Result<Option<KeptMessage>, StoreError> {
        let row = dead_letter::Entity::find_by_id(id)
            .one(self.reader())
            .await?;
        let Some(row) = row.filter(|row| row.returned_at.is_none()) else {
            return Ok(None);
        };
        let body = match (row.is_whole, row.is_text) {
            (false, _) => None,
            (true, true) => Some(row.body.into_bytes()),
            (true, false) => {
                Some(
                    STANDARD
                        .decode(&row.body)
                        .map_err(|error| StoreError::Inconsistent {
                            what: format!("dead letter {id} does not decode: {error}"),
                        })?,
                )
            }
        };
        Ok(Some(KeptMessage {
            queue: row.queue,
            body,
        }))
    }

    /// Forgets a kept message; whether it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letter_drop(&self, id: DeadLetterId) -> Result<bool, StoreError> {
        let tx = self.write().await?;
        let dropped = tx
            .sql("DELETE FROM dead_letters WHERE returned_at IS NULL AND id = ")
            .bind(id)
            .run(&*tx)
            .await?;
        tx.commit().await?;
        Ok(dropped > 0)
    }
}

fn row(letter: &NewDeadLetter) -> dead_letter::Model {
    let at = now();
    let kept = &letter.body[..letter.body.len().min(BODY_LIMIT)];
    let as_text = std::str::from_utf8(kept).ok().filter(|text| is_plain(text));
    let digest = Sha256::digest(&letter.body);
    dead_letter::Model {
        id: DeadLetterId::new(),
        message: clean(&letter.message, MESSAGE_LIMIT),
        queue: clean(&letter.queue, NAME_LIMIT),
        reason: clean(&letter.reason, REASON_LIMIT),
        sender: letter
            .sender
            .as_deref()
            .map(|sender| clean(sender, NAME_LIMIT)),
        deliveries: letter
            .deliveries
            .map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        size: i64::try_from(letter.body.len()).unwrap_or(i64::MAX),
        is_text: as_text.is_some(),
        is_whole: kept.len() == letter.body.len(),
        died_at: letter.died_at.map_or(at, super::report::plausible),
        recorded_at: at,
        returned_at: None,
        body: as_text.map_or_else(|| STANDARD.encode(kept), str::to_owned),
    }
}

/// Whether a text can be stored and shown as it is: no NUL, which Postgres refuses, and nothing that
/// becomes six times as long in JSON.
fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// Those that are recorded already, and whether they are to be put back.
async fn known(
    tx: &Tx<'_>,
    rows: &[dead_letter::Model],
) -> Result<HashMap<String, bool>, StoreError> {
    let known: Vec<Known> = tx
        .sql("SELECT message, returned_at IS NOT NULL AS is_returned FROM dead_letters WHERE message")
        .one_of(rows.iter().map(|row| row.message.clone()))
        .all(&**tx)
        .await?;
    Ok(known
        .into_iter()
        .map(|known| (known.message, known.is_returned))
        .collect())
}

/// The messages like these that were put back before.
async fn traces(
    tx: &Tx<'_>,
    rows: &[dead_letter::Model],
) -> Result<HashMap<(String, String), DeadLetterId>, StoreError> {
    let traces: Vec<Trace> = tx
        .sql("SELECT id, digest, queue FROM dead_letters WHERE returned_at IS NOT NULL AND digest")
        .one_of(rows.iter().map(|row| row.digest.clone()))
        .all(&**tx)
        .await?;
    Ok(traces
        .into_iter()
        .map(|trace| ((trace.digest, trace.queue), trace.id))
        .collect())
}

async fn insert(tx: &Tx<'_>, rows: Vec<dead_letter::Model>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows.into_iter().map(|row| dead_letter::ActiveModel {
        id: Set(row.id),
        message: Set(row.message),
        queue: Set(row.queue),
        reason: Set(row.reason),
        sender: Set(row.sender),
        deliveries: Set(row.deliveries),
        digest: Set(row.digest),
        size: Set(row.size),
        is_text: Set(row.is_text),
        is_whole: Set(row.is_whole),
        died_at: Set(row.died_at),
        recorded_at: Set(row.recorded_at),
        returned_at: Set(row.returned_at),
        body: Set(row.body),
    });
    // Another orchestrator may have another copy of a broadcast.
    let once = OnConflict::column(dead_letter::Column::Message)
        .do_nothing()
        .to_owned();
    dead_letter::Entity::insert_many(rows)
        .on_conflict(once)
        .exec_without_returning(&**tx)
        .await?;
    Ok(())
}

/// Removes what is too much, and traces that were recognised or are old; how many were too much.
async fn prune(tx: &Tx<'_>, spent: &[DeadLetterId]) -> Result<u64, StoreError> {
    tx.sql("DELETE FROM dead_letters WHERE returned_at < ")
        .bind(now() - RETURNED_FOR)
        .run(&**tx)
        .await?;
    if !spent.is_empty() {
        tx.sql("DELETE FROM dead_letters WHERE id")
            .one_of(spent.iter().copied())
            .run(&**tx)
            .await?;
    }
    tx.sql(
        "DELETE FROM dead_letters WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) AS place, \
         SUM(size) OVER (ORDER BY id DESC) AS bytes FROM dead_letters) AS aged WHERE place > ",
    )
    .bind(DEAD_LETTERS_KEPT)
    .push(" OR (place > 1 AND bytes > ")
    .bind(BYTES_KEPT)
    .push("))")
    .run(&**tx)
    .await
}
