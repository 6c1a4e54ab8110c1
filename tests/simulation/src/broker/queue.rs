//! One queue: what waits in it and what is under way.

use super::Holder;
use shared::bus::{DELIVERY_LIMIT, Death};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A message in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Its place in the order of publishing.
    pub(crate) position: u64,
    pub(crate) body: Vec<u8>,
    /// How often it was delivered before.
    pub(crate) deliveries: u32,
    /// How it died, in the queue of dead letters.
    pub(crate) death: Option<Box<Death>>,
    /// It is on the way until then.
    due: Instant,
}

impl Message {
    pub(crate) fn new(position: u64, body: Vec<u8>, due: Instant) -> Self {
        Self {
            position,
            body,
            deliveries: 0,
            death: None,
            due,
        }
    }

    /// The same, as a dead letter.
    pub(crate) fn died(mut self, death: Death) -> Self {
        self.death = Some(Box::new(death));
        self
    }
}

/// What waits, in the order of publishing, and what was delivered and not answered.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<u64, Message>,
    held: BTreeMap<u64, (Holder, Message)>,
    /// When the last message arrives: what is published later does not arrive before it.
    tail: Option<Instant>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.held.len()
    }

    pub(crate) fn push(&mut self, mut message: Message) {
        message.due = self.tail.map_or(message.due, |tail| tail.max(message.due));
        self.tail = Some(message.due);
        self.waiting.insert(message.position, message);
    }

    /// The first message that has arrived; else when there may be one.
    pub(crate) fn take(
        &mut self,
        holder: Holder,
        prefetch: usize,
        now: Instant,
    ) -> Result<Message, Option<Instant>> {
        let holds = self.held.values().filter(|(by, _)| *by == holder).count();
        if holds >= prefetch {
            return Err(None);
        }
        let arrived = self.waiting.values().find(|message| message.due <= now);
        let Some(position) = arrived.map(|message| message.position) else {
            return Err(self.waiting.values().map(|message| message.due).min());
        };
        let Some(message) = self.waiting.remove(&position) else {
            return Err(None);
        };
        self.held.insert(position, (holder, message.clone()));
        Ok(message)
    }

    /// Forgets a delivery; `false` when it was no longer this holder's.
    pub(crate) fn forget(&mut self, holder: Holder, position: u64) -> bool {
        let is_held = self
            .held
            .get(&position)
            .is_some_and(|(by, _)| *by == holder);
        if is_held {
            self.held.remove(&position);
        }
        is_held
    }

    /// A delivery comes again later; the message when that is too often.
    pub(crate) fn put_off(
        &mut self,
        holder: Holder,
        position: u64,
        due: Instant,
    ) -> Option<Message> {
        let held = self.held.get(&position).filter(|(by, _)| *by == holder);
        held?;
        let (_, mut message) = self.held.remove(&position)?;
        message.deliveries += 1;
        message.due = due;
        // A dead letter comes until it is taken.
        if message.deliveries >= DELIVERY_LIMIT && message.death.is_none() {
            return Some(message);
        }
        self.waiting.insert(position, message);
        None
    }

    /// Everything that a consumer held comes again; what did so too often is given to the caller.
    pub(crate) fn give_back(
        &mut self,
        holds: impl Fn(&Holder) -> bool,
        due: Instant,
    ) -> Vec<Message> {
        let held: Vec<(u64, Holder)> = self
            .held
            .iter()
            .filter(|(_, (by, _))| holds(by))
            .map(|(position, (by, _))| (*position, *by))
            .collect();
        held.into_iter()
            .filter_map(|(position, by)| self.put_off(by, position, due))
            .collect()
    }
}
