//! One queue in memory.

use super::super::{BusError, DELIVERY_LIMIT, Death};
use super::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::sync::{Notify, oneshot};

/// What a queue does with a message for which it has no room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Full {
    /// The publisher hears of it.
    Refuse,
    /// The oldest message goes.
    DropOldest,
}

/// A message and where it stands in its queue.
pub(super) struct Message {
    position: u64,
    pub(super) body: Vec<u8>,
    /// How often it was given back.
    pub(super) deliveries: u32,
    /// How it died, in the queue of dead letters.
    pub(super) death: Option<Box<Death>>,
    safe: Option<oneshot::Sender<()>>,
}

impl Message {
    /// Tells the publisher, if it waits, that the message is done with.
    pub(super) fn done(self) {
        if let Some(safe) = self.safe {
            // The publisher may have stopped waiting; then it sends the message again.
            let _ = safe.send(());
        }
    }
}

/// Messages in order; one that was given back stands where it stood before.
pub(super) struct Queue {
    /// What a dead letter calls it.
    pub(super) name: String,
    state: Mutex<State>,
    limit: usize,
    full: Full,
    /// Somebody may take a message.
    arrived: Notify,
}

#[derive(Default)]
struct State {
    declared: bool,
    waiting: BTreeMap<u64, Message>,
    next_position: u64,
}

impl Queue {
    /// A queue that takes nothing before it is declared.
    pub(super) fn new(name: String, limit: usize, full: Full) -> Self {
        Self {
            name,
            state: Mutex::default(),
            limit,
            full,
            arrived: Notify::new(),
        }
    }

    pub(super) fn declare(&self) {
        lock(&self.state).declared = true;
    }

    /// Forgets what is in it. Its consumers wait until it is declared again.
    pub(super) fn delete(&self) {
        let mut state = lock(&self.state);
        state.declared = false;
        state.waiting.clear();
    }

    /// Adds a message and says at which position. `safe` is told when the message is done with.
    pub(super) fn push(
        &self,
        body: Vec<u8>,
        safe: Option<oneshot::Sender<()>>,
    ) -> Result<u64, BusError> {
        self.add(body, None, safe)
    }

    /// Adds a dead letter.
    pub(super) fn bury(&self, body: Vec<u8>, death: Death) {
        // This queue is always declared and makes room by itself.
        let _ = self.add(body, Some(Box::new(death)), None);
    }

    fn add(
        &self,
        body: Vec<u8>,
        death: Option<Box<Death>>,
        safe: Option<oneshot::Sender<()>>,
    ) -> Result<u64, BusError> {
        let mut state = lock(&self.state);
        if !state.declared {
            return Err(BusError::Unroutable {
                address: "a queue that is not declared".to_owned(),
            });
        }
        if state.waiting.len() >= self.limit {
            match self.full {
                Full::Refuse => {
                    return Err(BusError::Away {
                        reason: "the queue is full".to_owned(),
                    });
                }
                Full::DropOldest => drop(state.waiting.pop_first()),
            }
        }
        let position = state.next_position;
        state.next_position += 1;
        state.waiting.insert(
            position,
            Message {
                position,
                body,
                deliveries: 0,
                death,
                safe,
            },
        );
        drop(state);
        self.arrived.notify_one();
        Ok(position)
    }

    /// Copies of what waits, in order.
    pub(super) fn waiting<T>(&self, of_each: impl FnMut(&Message) -> T) -> Vec<T> {
        lock(&self.state).waiting.values().map(of_each).collect()
    }

    /// Takes a message out again, if nobody has taken it.
    pub(super) fn withdraw(&self, position: u64) {
        lock(&self.state).waiting.remove(&position);
    }

    /// The next message, waited for. Dropping the wait loses nothing.
    pub(super) async fn pop(&self) -> Message {
        loop {
            let arrived = self.arrived.notified();
            let (message, more) = {
                let mut state = lock(&self.state);
                let message = state.waiting.pop_first().map(|(_, message)| message);
                (message, !state.waiting.is_empty())
            };
            if let Some(message) = message {
                // One call may stand for several messages, and for several who wait.
                if more {
                    self.arrived.notify_one();
                }
                return message;
            }
            arrived.await;
        }
    }

    /// Puts a message back to be delivered again; gives it to the caller when that was too often.
    /// One whose queue was deleted meanwhile is gone, as in a broker.
    pub(super) fn give_back(&self, mut message: Message) -> Result<(), Message> {
        message.deliveries += 1;
        // A dead letter comes until it is kept.
        if message.deliveries >= DELIVERY_LIMIT && message.death.is_none() {
            return Err(message);
        }
        let mut state = lock(&self.state);
        if state.declared {
            state.waiting.insert(message.position, message);
            drop(state);
            self.arrived.notify_one();
        }
        Ok(())
    }
}
