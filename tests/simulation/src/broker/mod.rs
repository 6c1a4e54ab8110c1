//! A broker in memory whose network drops, doubles, delays and reorders.
//!
//! It keeps the contract of [`shared::bus`], whose conformance suite runs over it in calm weather.
//! In bad weather it does what that contract allows and a real broker does rarely: a publish that
//! nobody confirms, a delivery that comes to nothing and comes again behind later ones, an
//! acknowledgement that is lost, queues that are gone.

mod bus;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use bus::ChaosBus;

use crate::dice::Dice;
use crate::scenario::Chaos;
use crate::trace::Trace;
use crate::weather::{Weather, Who};
use queue::{Message, Queue};
use shared::bus::{Address, BusHealth, Death, DeathCause, Subscription};
use shared::name::NodeName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Where messages wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueName {
    Work(NodeName),
    Deployment,
    Dead,
    /// What one reader of telemetry or events has not read.
    Reader(u64),
}

impl QueueName {
    /// What a dead letter calls it.
    fn said(&self) -> String {
        match self {
            Self::Work(node) => Subscription::Work(node.clone()).queue(),
            Self::Deployment => Subscription::Deployment.queue(),
            Self::Dead => Subscription::Dead.queue(),
            Self::Reader(_) => Subscription::Events.queue(),
        }
    }
}

/// A broker in memory. It outlives the processes that use it.
#[derive(Debug)]
pub(crate) struct Broker {
    state: Mutex<State>,
    changed: Notify,
    weather: Arc<Weather>,
    dice: Dice,
    trace: Trace,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<QueueName, Queue>,
    readers: BTreeMap<u64, Reader>,
    clients: BTreeMap<u64, Client>,
    /// Nothing can be reached.
    is_away: bool,
    /// What a reader refused for good, with why.
    refused: Vec<(Vec<u8>, String)>,
    next: u64,
}

impl State {
    /// A message came to its end: it waits for a reader of dead letters.
    fn bury(&mut self, from: &QueueName, body: Vec<u8>, deliveries: u32, refusal: Option<&str>) {
        if let Some(reason) = refusal {
            self.refused.push((body.clone(), reason.to_owned()));
        }
        self.next += 1;
        let position = self.next;
        let death = Death {
            message: format!("message-{position}"),
            queue: from.said(),
            cause: match refusal {
                Some(_) => DeathCause::Refused,
                None => DeathCause::Exhausted,
            },
            reason: refusal.unwrap_or(Death::EXHAUSTED).to_owned(),
            sender: None,
            deliveries: Some(deliveries),
            at: Some(shared::clock::now()),
        };
        let letter = Message::new(position, body, Instant::now()).died(death);
        self.queues.entry(QueueName::Dead).or_default().push(letter);
    }

    /// What was held is delivered again; what that happened to too often is dead.
    fn give_back(&mut self, holds: impl Fn(&Holder) -> bool) {
        let now = Instant::now();
        let mut lost = Vec::new();
        for (name, queue) in &mut self.queues {
            let of_it = queue.give_back(&holds, now);
            lost.extend(of_it.into_iter().map(|message| (name.clone(), message)));
        }
        for (name, message) in lost {
            self.exhausted(&name, message);
        }
    }

    fn exhausted(&mut self, name: &QueueName, message: Message) {
        self.bury(name, message.body, message.deliveries, None);
    }
}

/// Who listens to what is said to all.
#[derive(Debug)]
struct Reader {
    client: u64,
    subscription: Subscription,
}

/// One life of a process, as the broker sees it.
#[derive(Debug)]
struct Client {
    who: Who,
    is_connected: bool,
    is_cut: bool,
    /// One for each who looks: those who wait for the same one are woken in no certain order.
    health: Vec<watch::Sender<BusHealth>>,
}

impl Client {
    fn health(&self) -> BusHealth {
        if self.is_connected {
            BusHealth::Up
        } else {
            BusHealth::Down {
                reason: "it is simulated to be away".to_owned(),
            }
        }
    }
}

impl Broker {
    pub(crate) fn new(weather: Arc<Weather>, dice: Dice, trace: Trace) -> Arc<Self> {
        let mut state = State::default();
        state.queues.insert(QueueName::Deployment, Queue::default());
        state.queues.insert(QueueName::Dead, Queue::default());
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            weather,
            dice,
            trace,
        })
    }

    /// The broker goes away, or comes back with what it had.
    pub(crate) fn away(&self, is_away: bool) {
        let mut state = self.state();
        state.is_away = is_away;
        let clients: Vec<u64> = state.clients.keys().copied().collect();
        for client in clients {
            self.reconnect(&mut state, client);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A process is cut from the broker, or reaches it again.
    pub(crate) fn cut(&self, who: Who, is_cut: bool) {
        let mut state = self.state();
        let clients = state.clients.iter_mut().filter(|(_, it)| it.who == who);
        let clients: Vec<u64> = clients
            .map(|(id, client)| {
                client.is_cut = is_cut;
                *id
            })
            .collect();
        for client in clients {
            self.reconnect(&mut state, client);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The queues of work are gone, and with `reports` also the reports that nobody has read.
    pub(crate) fn wipe(&self, reports: bool) {
        let mut state = self.state();
        state.queues.retain(|name, _| match name {
            QueueName::Work(_) => false,
            QueueName::Deployment | QueueName::Dead => !reports,
            QueueName::Reader(_) => true,
        });
        // Whoever connects again declares these.
        state.queues.entry(QueueName::Deployment).or_default();
        state.queues.entry(QueueName::Dead).or_default();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Messages that a reader refused for good, with why. One that merely was under way to processes
    /// that died is none of these.
    pub(crate) fn refused(&self) -> Vec<(Vec<u8>, String)> {
        self.state().refused.clone()
    }

    /// How many messages wait or are under way in durable queues.
    pub(crate) fn pending(&self) -> usize {
        let state = self.state();
        let durable = state
            .queues
            .iter()
            .filter(|(name, _)| !matches!(name, QueueName::Reader(_)));
        durable.map(|(_, queue)| queue.len()).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chaos(&self) -> Chaos {
        self.weather.sky().chaos
    }

    /// A new life of a process introduces itself.
    fn introduce(&self, who: Who) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let is_cut = state.clients.values().any(|it| it.who == who && it.is_cut);
        let client = Client {
            who,
            is_connected: true,
            is_cut,
            health: Vec::new(),
        };
        state.clients.insert(id, client);
        self.reconnect(&mut state, id);
        id
    }

    /// A life ended: what it held is delivered again.
    fn forget(&self, client: u64) {
        let mut state = self.state();
        if let Some(it) = state.clients.get_mut(&client) {
            it.is_cut = true;
        }
        self.reconnect(&mut state, client);
        state.clients.remove(&client);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Makes a client connected or not, as things are.
    fn reconnect(&self, state: &mut State, client: u64) {
        let is_away = state.is_away;
        let Some(it) = state.clients.get_mut(&client) else {
            return;
        };
        let is_connected = !is_away && !it.is_cut;
        if std::mem::replace(&mut it.is_connected, is_connected) == is_connected {
            return;
        }
        let health = it.health();
        it.health.retain(|looking| looking.receiver_count() > 0);
        for looking in &it.health {
            looking.send_replace(health.clone());
        }
        if is_connected {
            return;
        }
        let ours: Vec<u64> = state
            .readers
            .iter()
            .filter(|(_, reader)| reader.client == client)
            .map(|(id, _)| *id)
            .collect();
        for reader in ours {
            // The queue of a reader lives as long as its connection.
            if let Some(queue) = state.queues.get_mut(&QueueName::Reader(reader)) {
                *queue = Queue::default();
            }
        }
        state.give_back(|by| by.client == client);
    }

    /// Puts a message where its address leads; `false` when that is nowhere.
    fn route(&self, address: &Address, body: &[u8], delay: Duration) -> bool {
        let due = Instant::now() + delay;
        let mut state = self.state();
        state.next += 1;
        let position = state.next;
        let message = || Message::new(position, body.to_vec(), due);
        let is_routed = match address {
            Address::Work(_) | Address::Deployment => {
                let name = match address {
                    Address::Work(node) => QueueName::Work(node.clone()),
                    _ => QueueName::Deployment,
                };
                state
                    .queues
                    .get_mut(&name)
                    .map(|queue| queue.push(message()))
            }
            .is_some(),
            Address::Telemetry(_) | Address::Events => {
                let meant = |subscription: &Subscription| match (subscription, address) {
                    (Subscription::Events, Address::Events) => true,
                    (Subscription::Telemetry(topics), Address::Telemetry(topic)) => {
                        topics.contains(topic)
                    }
                    _ => false,
                };
                let State {
                    readers,
                    queues,
                    clients,
                    ..
                } = &mut *state;
                let hears = |reader: &Reader| {
                    meant(&reader.subscription)
                        && clients
                            .get(&reader.client)
                            .is_some_and(|it| it.is_connected)
                };
                for (id, _) in readers.iter().filter(|(_, reader)| hears(reader)) {
                    if let Some(queue) = queues.get_mut(&QueueName::Reader(*id)) {
                        queue.push(message());
                    }
                }
                true
            }
        };
        drop(state);
        self.changed.notify_waiters();
        is_routed
    }

    /// The next delivery of a queue for a consumer, once there is one.
    async fn take(&self, name: &QueueName, consumer: Holder, prefetch: usize) -> Taken {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that nothing that happens after it is missed.
            changed.as_mut().enable();
            let next = {
                let mut state = self.state();
                let is_connected = state
                    .clients
                    .get(&consumer.client)
                    .is_some_and(|it| it.is_connected);
                match state.queues.get_mut(name).filter(|_| is_connected) {
                    Some(queue) => queue.take(consumer, prefetch, Instant::now()),
                    None => Err(None),
                }
            };
            match next {
                Ok(message) if self.is_late(name, &message) => {
                    let due = Instant::now() + self.dice.millis(50, 3000);
                    if let Some(queue) = self.state().queues.get_mut(name) {
                        queue.put_off(consumer, message.position, due);
                    }
                }
                Ok(message) => {
                    return Taken {
                        position: message.position,
                        body: message.body,
                        deliveries: message.deliveries,
                        death: message.death,
                    };
                }
                Err(Some(due)) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                Err(None) => changed.await,
            }
        }
    }

    /// Whether this delivery comes to nothing: the connection broke under it, say.
    fn is_late(&self, name: &QueueName, message: &Message) -> bool {
        let is_durable = !matches!(name, QueueName::Reader(_));
        // Not too often: the delivery limit is about messages that nobody can take.
        is_durable && message.deliveries < 2 && self.dice.happens(self.chaos().late)
    }
}

/// Who holds a delivery: a consumer of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    client: u64,
    consumer: u64,
}

struct Taken {
    position: u64,
    body: Vec<u8>,
    /// How often it was delivered before.
    deliveries: u32,
    death: Option<Box<Death>>,
}
