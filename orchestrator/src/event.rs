//! What follows a commit: recorded changes are announced and loops are woken.
//!
//! Both are hints. A change that is announced is already a row, and a loop that misses its wake-up
//! is swept by its timer.

use shared::id::NodeId;
use shared::message::{ChangeEvent, StatusEvent};
use tokio::sync::{Notify, mpsc};

/// Takes recorded changes, after their transaction was committed, to whoever tells subscribers.
#[derive(Clone, Debug)]
pub struct EventSink {
    // Unbounded on purpose: a commit must never wait for a subscriber. Its one reader fans out to
    // bounded buffers, where a slow subscriber loses its own place only.
    sender: mpsc::UnboundedSender<ChangeEvent>,
}

/// The other end of [`EventSink`].
pub type RecordedEvents = mpsc::UnboundedReceiver<ChangeEvent>;

impl EventSink {
    /// A sink and the one end that reads it.
    #[must_use]
    pub fn channel() -> (Self, RecordedEvents) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Announces recorded steps.
    pub fn steps(&self, steps: impl IntoIterator<Item = StatusEvent>) {
        for step in steps {
            self.send(ChangeEvent::Status(step));
        }
    }

    /// Announces nodes whose rows changed.
    pub fn nodes(&self, nodes: impl IntoIterator<Item = NodeId>) {
        for node_id in nodes {
            self.send(ChangeEvent::Node { node_id });
        }
    }

    fn send(&self, event: ChangeEvent) {
        if self.sender.send(event).is_err() {
            // The reader ends last at shutdown; then there is nobody left to tell.
            tracing::debug!("a recorded change was not announced: the orchestrator is stopping");
        }
    }
}

/// What the loops wait for beside their timers. A wake-up before the wait is not lost.
#[derive(Debug, Default)]
pub struct Wake {
    /// A revision was requested just now.
    pub requested: Notify,
    /// A revision that waited may be placed now: a node changed, or an older revision ended.
    pub dispatcher: Notify,
    /// A work request may be waiting to be published.
    pub publisher: Notify,
    /// A repository may be due for a look.
    pub watcher: Notify,
    /// A node may be to be told the whole picture.
    pub assigner: Notify,
    /// A deployment may be to leave its node, or need not any longer.
    pub mover: Notify,
    /// A node was removed.
    pub steward: Notify,
}
