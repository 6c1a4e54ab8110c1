//! Following a build log: from its first line, then live, until it is complete.
//!
//! Every line comes from the store, which orders them and keeps each once; the hub only says when
//! to look. So a reader that comes late, reads slowly or reads from another orchestrator sees the
//! same lines.

use super::LogLineView;
use super::hub::Hub;
use crate::error::CommandError;
use crate::query::Queries;
use crate::store::{BuildLogLine, BuildLogPosition, BuildLogState, Store};
use futures::stream::{self, BoxStream, StreamExt};
use shared::id::RevisionId;
use shared::message::StatusEvent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// How many lines are read at once.
const PAGE: u64 = 500;
/// How long until a look without a hint: hints may be lost, the store is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a line that should come next is waited for: two orchestrators may store the lines of
/// one log in turn. Also how long after its revision has settled a log without a known end goes on.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts to follow.
pub(super) async fn follow(
    store: Store,
    queries: Queries,
    hub: &Hub,
    revision_id: RevisionId,
) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
    // Listening comes before reading, so that no hint falls in between.
    let reader = Reader {
        grew: hub.build_logs(),
        moved: hub.statuses(),
        store,
        queries,
        revision_id,
        position: BuildLogPosition::default(),
        waiting: VecDeque::new(),
        told: 0,
        stuck_since: None,
        settled_since: None,
    };
    reader.settled_epoch().await?;
    Ok(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|line| (line, reader)))
    })
    .boxed())
}

/// One reader's place.
struct Reader {
    store: Store,
    queries: Queries,
    grew: broadcast::Receiver<RevisionId>,
    moved: broadcast::Receiver<Arc<StatusEvent>>,
    revision_id: RevisionId,
    position: BuildLogPosition,
    waiting: VecDeque<BuildLogLine>,
    told: i64,
    stuck_since: Option<Instant>,
    settled_since: Option<Instant>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogLineView>, CommandError> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.told += 1;
                let BuildLogLine {
                    at, stream, text, ..
                } = line;
                return Ok(Some(LogLineView {
                    seq: self.told,
                    at,
                    stream,
                    service: None,
                    text,
                }));
            }
            // Asked before reading: what is stored until a log has ended is read below.
            let end = self.end().await?;
            if self.read().await? {
                continue;
            }
            if self.is_at(end) {
                return Ok(None);
            }
            self.hint().await;
        }
    }

    /// Reads what comes next; `false` when there is nothing to tell yet.
    async fn read(&mut self) -> Result<bool, CommandError> {
        let page = self
            .store
            .build_log_page(self.revision_id, self.position, PAGE)
            .await?;
        let has_patience = self
            .stuck_since
            .is_none_or(|since| since.elapsed() < PATIENCE)
            && self.settled_since.is_none();
        let is_stuck = !page.is_empty();
        for line in page {
            if has_patience && !follows(self.position, line.position) {
                break;
            }
            self.position = line.position;
            self.waiting.push_back(line);
        }
        if self.waiting.is_empty() {
            self.stuck_since = is_stuck.then(|| self.stuck_since.unwrap_or_else(Instant::now));
            return Ok(false);
        }
        self.stuck_since = None;
        Ok(true)
    }

    /// How the log ends, as far as that is known now.
    async fn end(&mut self) -> Result<End, CommandError> {
        let Some(epoch) = self.settled_epoch().await? else {
            self.settled_since = None;
            return Ok(End::Unknown);
        };
        if epoch == 0 {
            // Never given to a node: nobody writes a log.
            return Ok(End::Here);
        }
        let settled_since = *self.settled_since.get_or_insert_with(Instant::now);
        if settled_since.elapsed() >= PATIENCE {
            return Ok(End::Here);
        }
        let states = self.store.build_log_states(self.revision_id).await?;
        Ok(match states.iter().find(|state| state.epoch == epoch) {
            Some(state) if state.cut => End::Here,
            Some(BuildLogState {
                ended_at_line: Some(seq),
                ..
            }) => End::After(BuildLogPosition { epoch, seq: *seq }),
            _ => End::Unknown,
        })
    }

    /// Whether everything is told, when there is nothing more to read now.
    fn is_at(&self, end: End) -> bool {
        match end {
            End::Unknown => false,
            End::After(last) => self.position >= last,
            End::Here => true,
        }
    }

    /// The revision's attempt once it is on its way no longer; none while it is.
    async fn settled_epoch(&self) -> Result<Option<i32>, CommandError> {
        let mut revisions = self.queries.revisions_by_ids(&[self.revision_id]).await?;
        let revision = revisions
            .remove(&self.revision_id)
            .ok_or_else(|| CommandError::not_found("revision", self.revision_id))?;
        Ok((!revision.status.is_open()).then_some(revision.epoch))
    }

    /// Waits until a look may be worth it.
    async fn hint(&mut self) {
        let look_again = tokio::time::sleep(LOOK_AGAIN);
        tokio::pin!(look_again);
        loop {
            tokio::select! {
                grew = self.grew.recv() => if is_hint(grew, |revision| *revision == self.revision_id) { return },
                moved = self.moved.recv() => if is_hint(moved, |event| event.revision_id == self.revision_id) { return },
                () = &mut look_again => return,
            }
        }
    }
}

/// A hint about this log, or so many that one of them may have been.
fn is_hint<T>(
    received: Result<T, broadcast::error::RecvError>,
    is_ours: impl Fn(&T) -> bool,
) -> bool {
    received.map_or(true, |hint| is_ours(&hint))
}

/// How a log ends.
#[derive(Clone, Copy)]
enum End {
    /// It may go on.
    Unknown,
    /// With this line.
    After(BuildLogPosition),
    /// With whatever is stored.
    Here,
}

/// Whether no line is missing between the two. A node that begins an attempt again after a restart
/// begins its log at the next full [`shared::message::LOG_TRY`].
fn follows(last: BuildLogPosition, next: BuildLogPosition) -> bool {
    (last.epoch == next.epoch && next.seq == last.seq + 1)
        || next.seq % shared::message::LOG_TRY == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_follows_its_predecessor_or_begins_an_attempt() {
        let at = |epoch, seq| BuildLogPosition { epoch, seq };
        assert!(follows(at(0, 0), at(1, 1)));
        assert!(follows(at(1, 7), at(1, 8)));
        assert!(follows(at(1, 7), at(2, 1)));
        assert!(follows(at(1, 7), at(1, shared::message::LOG_TRY + 1)));
        assert!(!follows(at(1, 7), at(1, 9)));
        assert!(!follows(at(0, 0), at(1, 2)));
    }
}
