//! Build logs: lines in batches, once each, within limits.

use super::column::{Time, now};
use super::entity::{build_log, build_log_line, revision};
use super::report::{clean, plausible};
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, Value,
};
use shared::id::RevisionId;
use shared::message::{LogLine, LogSubject};
use shared::status::LogStream;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many lines of one log are kept.
pub(super) const LINES_LIMIT: i64 = 100_000;
/// How many bytes of one log are kept.
const BYTES_LIMIT: i64 = 16 * 1024 * 1024;
/// How much of one line is kept, in bytes; nodes cut at 8 KiB and add a mark.
const LINE_LIMIT: usize = 9 * 1024;

/// Where a reader of a revision's build log is: before the first line by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildLogPosition {
    /// The attempt.
    pub epoch: i32,
    /// The last line that was read of it.
    pub seq: i64,
}

/// A stored line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLogLine {
    /// Where it stands.
    pub position: BuildLogPosition,
    /// When, by the node's clock.
    pub at: Time,
    /// Where it came from.
    pub stream: LogStream,
    /// The line.
    pub text: String,
}

/// What is known of the build log of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildLogState {
    /// The attempt.
    pub epoch: i32,
    /// How many lines are stored.
    pub lines: i64,
    /// The number of its last line, once its end is known.
    pub ended_at_line: Option<i64>,
    /// Whether lines were dropped because it was too long.
    pub cut: bool,
}

/// Which log.
type Key = (RevisionId, i32);

impl Store {
    /// Stores lines of build logs; those stored before, of unknown revisions, or beyond a log's
    /// limits are left out. Lines of service logs are nobody's to store.
    ///
    /// # Errors
    /// [`StoreError`]; storing them all again is then harmless.
    pub async fn build_log_append(&self, lines: &[LogLine]) -> Result<(), StoreError> {
        for chunk in lines.chunks(ROWS_AT_ONCE) {
            self.append(chunk).await?;
        }
        Ok(())
    }

    async fn append(&self, lines: &[LogLine]) -> Result<(), StoreError> {
        let mut logs: BTreeMap<Key, BTreeMap<i64, &LogLine>> = BTreeMap::new();
        for line in lines {
            if let LogSubject::Build { revision_id, epoch } = line.subject {
                logs.entry((revision_id, epoch))
                    .or_default()
                    .insert(line.seq, line);
            }
        }
        if logs.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        let mut headers = headers(&tx, logs.keys().copied()).await?;
        logs.retain(|key, _| headers.contains_key(key));
        let stored = stored(&tx, &logs).await?;
        let mut rows = Vec::new();
        for (key, lines) in &logs {
            let Some(header) = headers.get_mut(key) else {
                continue;
            };
            let new = lines
                .values()
                .filter(|line| !stored.contains(&(key.0, key.1, line.seq)));
            rows.extend(new.filter_map(|line| admit(header, line)));
        }
        for chunk in rows.chunks(ROWS_AT_ONCE) {
            tx.sql("").insert(chunk.iter().cloned()).run(&*tx).await?;
        }
        update(
            &tx,
            headers
                .values()
                .filter(|header| logs.contains_key(&(header.revision_id, header.epoch))),
        )
        .await?;
        tx.commit().await
    }

    /// Records that build logs ended, each with the number of its last line.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn build_log_end(&self, ends: &[(RevisionId, i32, i64)]) -> Result<(), StoreError> {
        if ends.is_empty() {
            return Ok(());
        }
        let tx = self.write().await?;
        let mut headers = headers(
            &tx,
            ends.iter()
                .map(|(revision_id, epoch, _)| (*revision_id, *epoch)),
        )
        .await?;
        for (revision_id, epoch, lines) in ends {
            if let Some(header) = headers.get_mut(&(*revision_id, *epoch)) {
                header.ended_at_line = Some(*lines);
            }
        }
        update(&tx, headers.values()).await?;
        tx.commit().await
    }

    /// Up to `limit` lines of a revision's build log after `after`, in order, all attempts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn build_log_page(
        &self,
        revision_id: RevisionId,
        after: BuildLogPosition,
        limit: u64,
    ) -> Result<Vec<BuildLogLine>, StoreError> {
        use build_log_line::Column;
        let same = Condition::all()
            .add(Column::Epoch.eq(after.epoch))
            .add(Column::Seq.gt(after.seq));
        let rows = build_log_line::Entity::find()
            .filter(Column::RevisionId.eq(revision_id))
            .filter(
                Condition::any()
                    .add(Column::Epoch.gt(after.epoch))
                    .add(same),
            )
            .order_by_asc(Column::Epoch)
            .order_by_asc(Column::Seq)
            .limit(limit)
            .all(self.reader())
            .await?;
        let line = |row: build_log_line::Model| BuildLogLine {
            position: BuildLogPosition {
                epoch: row.epoch,
                seq: row.seq,
            },
            at: row.at,
            stream: row.stream,
            text: row.text,
        };
        Ok(rows.into_iter().map(line).collect())
    }

    /// What is known of a revision's build logs, by attempt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn build_log_states(
        &self,
        revision_id: RevisionId,
    ) -> Result<Vec<BuildLogState>, StoreError> {
        let rows = build_log::Entity::find()
            .filter(build_log::Column::RevisionId.eq(revision_id))
            .order_by_asc(build_log::Column::Epoch)
            .all(self.reader())
            .await?;
        let state = |row: build_log::Model| BuildLogState {
            epoch: row.epoch,
            lines: row.lines,
            ended_at_line: row.ended_at_line,
            cut: row.cut,
        };
        Ok(rows.into_iter().map(state).collect())
    }
}

/// Locks the headers of logs, making those that are missing. Revisions that do not exist have none.
async fn headers(
    tx: &Tx<'_>,
    keys: impl Iterator<Item = Key>,
) -> Result<HashMap<Key, build_log::Model>, StoreError> {
    let mut keys: Vec<Key> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let ids = keys.iter().map(|(revision_id, _)| *revision_id);
    let known: Vec<(RevisionId, i32)> = revision::Entity::find()
        .select_only()
        .columns([revision::Column::Id, revision::Column::Epoch])
        .filter(revision::Column::Id.is_in(ids))
        .into_tuple()
        .all(&**tx)
        .await?;
    let known: HashMap<RevisionId, i32> = known.into_iter().collect();
    keys.retain(|(revision_id, epoch)| {
        known
            .get(revision_id)
            .is_some_and(|newest| (1..=*newest).contains(epoch))
    });
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let empty = |(revision_id, epoch): &Key| build_log::Model {
        revision_id: *revision_id,
        epoch: *epoch,
        lines: 0,
        bytes: 0,
        ended_at_line: None,
        cut: false,
        updated_at: now(),
    };
    build_log::Entity::insert_many(keys.iter().map(|key| empty(key).into_active_model()))
        .on_conflict(
            OnConflict::columns([build_log::Column::RevisionId, build_log::Column::Epoch])
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(&**tx)
        .await?;
    let any = keys
        .iter()
        .fold(Condition::any(), |any, (revision_id, epoch)| {
            let this = Condition::all()
                .add(build_log::Column::RevisionId.eq(*revision_id))
                .add(build_log::Column::Epoch.eq(*epoch));
            any.add(this)
        });
    let rows = build_log::Entity::find()
        .filter(any)
        .order_by_asc(build_log::Column::RevisionId)
        .order_by_asc(build_log::Column::Epoch)
        .lock(LockType::NoKeyUpdate)
        .all(&**tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.revision_id, row.epoch), row))
        .collect())
}

/// Which of these lines are stored already: every orchestrator hears every line.
async fn stored(
    tx: &Tx<'_>,
    logs: &BTreeMap<Key, BTreeMap<i64, &LogLine>>,
) -> Result<HashSet<(RevisionId, i32, i64)>, StoreError> {
    use build_log_line::Column;
    if logs.is_empty() {
        return Ok(HashSet::new());
    }
    let any = logs
        .iter()
        .fold(Condition::any(), |any, ((revision_id, epoch), lines)| {
            let (first, last) = (
                lines.keys().next().copied().unwrap_or(0),
                lines.keys().next_back().copied().unwrap_or(0),
            );
            any.add(
                Condition::all()
                    .add(Column::RevisionId.eq(*revision_id))
                    .add(Column::Epoch.eq(*epoch))
                    .add(Column::Seq.between(first, last)),
            )
        });
    let select = build_log_line::Entity::find()
        .select_only()
        .columns([Column::RevisionId, Column::Epoch, Column::Seq])
        .filter(any);
    let keys: Vec<(RevisionId, i32, i64)> = select.into_tuple().all(&**tx).await?;
    Ok(keys.into_iter().collect())
}

/// Counts a line towards its log, and gives the row to store: the line, the mark that the log is cut
/// here, or nothing beyond that.
fn admit(header: &mut build_log::Model, line: &LogLine) -> Option<build_log_line::ActiveModel> {
    if header.cut || line.seq < 1 {
        return None;
    }
    let text = clean(&line.text, LINE_LIMIT);
    let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX);
    header.cut = header.lines >= LINES_LIMIT || header.bytes.saturating_add(bytes) > BYTES_LIMIT;
    let (stream, text) = if header.cut {
        (
            LogStream::System,
            "the log is cut here: it is longer than what is kept".to_owned(),
        )
    } else {
        header.bytes += bytes;
        (line.stream, text)
    };
    header.lines += 1;
    Some(build_log_line::ActiveModel {
        revision_id: Set(header.revision_id),
        epoch: Set(header.epoch),
        seq: Set(line.seq),
        at: Set(plausible(line.at)),
        stream: Set(stream),
        text: Set(text),
    })
}

async fn update(
    tx: &Tx<'_>,
    headers: impl Iterator<Item = &build_log::Model>,
) -> Result<(), StoreError> {
    let at = now();
    let rows: Vec<[Value; 7]> = headers
        .map(|row| {
            [
                row.revision_id.into(),
                row.epoch.into(),
                row.lines.into(),
                row.bytes.into(),
                row.ended_at_line.into(),
                row.cut.into(),
                at.into(),
            ]
        })
        .collect();
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        tx.sql(
            "UPDATE build_logs SET lines = v.column3, bytes = v.column4, ended_at_line = v.column5, cut = v.column6, \
             updated_at = v.column7 FROM ",
        )
        .rows(chunk.iter().cloned())
        .push(" WHERE build_logs.revision_id = v.column1 AND build_logs.epoch = v.column2")
        .run(&**tx)
        .await?;
    }
    Ok(())
}
