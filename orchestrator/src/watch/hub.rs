//! Where what happened meets whoever follows it, inside this process.
//!
//! Bounded: a follower that reads too slowly loses its own place and is told so; nobody waits for it.

use shared::id::{NodeId, RevisionId, StreamId};
use shared::message::{ChangeEvent, LogLine, StatusEvent};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc};

/// How many status events wait for a follower: a burst of about six hundred deployments.
const STATUS_BACKLOG: usize = 4096;
/// How many node changes wait for a follower.
const NODE_BACKLOG: usize = 512;
/// How many hints that a build log grew wait for a follower, who reads it from the store anyway.
const LOG_BACKLOG: usize = 512;
/// How many lines of a service log wait for its reader.
pub(super) const SERVICE_LOG_BACKLOG: usize = 2048;

/// One line for the reader of a service log, or how many were left out before it.
#[derive(Debug)]
pub(super) struct ServiceLine {
    pub(super) line: LogLine,
    pub(super) left_out_before: u64,
}

struct Reader {
    lines: mpsc::Sender<ServiceLine>,
    left_out: u64,
}

/// Tells followers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    statuses: broadcast::Sender<Arc<StatusEvent>>,
    nodes: broadcast::Sender<NodeId>,
    build_logs: broadcast::Sender<RevisionId>,
    readers: Mutex<HashMap<StreamId, Reader>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            statuses: broadcast::Sender::new(STATUS_BACKLOG),
            nodes: broadcast::Sender::new(NODE_BACKLOG),
            build_logs: broadcast::Sender::new(LOG_BACKLOG),
            readers: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Tells followers of a recorded change. That nobody follows is no error.
    pub(crate) fn tell(&self, event: ChangeEvent) {
        match event {
            ChangeEvent::Status(step) => drop(self.inner.statuses.send(Arc::new(step))),
            ChangeEvent::Node { node_id } => drop(self.inner.nodes.send(node_id)),
        }
    }

    /// Tells that a build log has more in the store.
    pub(crate) fn build_log_grew(&self, revision_id: RevisionId) {
        let _ = self.inner.build_logs.send(revision_id);
    }

    /// Passes a line on to the reader of a service log; a line for nobody is dropped.
    pub(crate) fn service_line(&self, stream: StreamId, line: LogLine) {
        let mut readers = self.readers();
        let Some(reader) = readers.get_mut(&stream) else {
            return;
        };
        let line = ServiceLine {
            line,
            left_out_before: reader.left_out,
        };
        reader.left_out = match reader.lines.try_send(line) {
            Ok(()) => 0,
            Err(_) => reader.left_out + 1,
        };
    }

    pub(super) fn statuses(&self) -> broadcast::Receiver<Arc<StatusEvent>> {
        self.inner.statuses.subscribe()
    }

    pub(super) fn nodes(&self) -> broadcast::Receiver<NodeId> {
        self.inner.nodes.subscribe()
    }

    pub(super) fn build_logs(&self) -> broadcast::Receiver<RevisionId> {
        self.inner.build_logs.subscribe()
    }

    /// A place for the lines of one reader; it is given up when the guard is dropped.
    pub(super) fn reader(&self, stream: StreamId) -> (mpsc::Receiver<ServiceLine>, ReaderGuard) {
        let (lines, receiver) = mpsc::channel(SERVICE_LOG_BACKLOG);
        self.readers().insert(stream, Reader { lines, left_out: 0 });
        (
            receiver,
            ReaderGuard {
                hub: self.clone(),
                stream,
            },
        )
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<StreamId, Reader>> {
        // Nothing in here can panic half-way through a change.
        self.inner
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader's place at the hub.
pub(super) struct ReaderGuard {
    hub: Hub,
    stream: StreamId,
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.hub.readers().remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::message::LogSubject;
    use shared::status::LogStream;

    fn line(stream: StreamId, seq: i64) -> LogLine {
        let subject = LogSubject::Service(stream);
        LogLine {
            subject,
            source: None,
            seq,
            at: shared::clock::now(),
            stream: LogStream::Stdout,
            text: "x".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_lines_it_missed() {
        let hub = Hub::new();
        let stream = StreamId::new();
        let (mut lines, _guard) = hub.reader(stream);
        let sent = i64::try_from(SERVICE_LOG_BACKLOG).unwrap() + 3;
        for seq in 1..=sent {
            hub.service_line(stream, line(stream, seq));
        }
        let first = lines.recv().await.unwrap();
        assert_eq!((first.line.seq, first.left_out_before), (1, 0));
        hub.service_line(stream, line(stream, sent + 1));
        let mut last = first;
        while let Ok(next) = lines.try_recv() {
            last = next;
        }
        assert_eq!((last.line.seq, last.left_out_before), (sent + 1, 3));
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_forgotten() {
        let hub = Hub::new();
        let stream = StreamId::new();
        let (_, guard) = hub.reader(stream);
        drop(guard);
        hub.service_line(stream, line(stream, 1));
        assert!(hub.readers().is_empty());
    }
}
