//! The transport inside one process: queues in memory, with the same contract as a broker's.
//!
//! A work queue exists once it is declared and holds what was published until it is acknowledged.
//! A report's publisher waits until a consumer acknowledged it. Telemetry and events go to those
//! who listen at that moment; a slow reader loses the oldest. Every queue has a limit.

mod queue;
#[cfg(test)]
mod tests;

use super::{
    Address, Answer, Bus, BusError, BusHealth, Consumer, Death, DeathCause, Delivery,
    PUBLISH_TIMEOUT, Subscription,
};
use crate::name::NodeName;
use async_trait::async_trait;
use queue::{Full, Message, Queue};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Messages that a durable queue holds, as in the broker.
const DURABLE_LIMIT: usize = 10_000;
/// Messages that wait for one slow reader of telemetry or events.
const READER_LIMIT: usize = 10_000;
/// Dead letters that are kept.
const DEAD_LIMIT: usize = 1_000;

/// A message that could not be handled and waits for a reader of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What was sent.
    pub body: Vec<u8>,
    /// Why it was not handled.
    pub reason: String,
}

/// A bus inside one process. Clones are the same bus.
#[derive(Clone)]
pub struct LocalBus {
    inner: Arc<Inner>,
}

struct Inner {
    work: Mutex<HashMap<NodeName, Arc<Queue>>>,
    deployment: Arc<Queue>,
    readers: Mutex<Vec<(Subscription, Weak<Queue>)>>,
    dead: Arc<Dead>,
    health: watch::Sender<BusHealth>,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The dead letters: those that nobody read yet, and how many there were.
struct Dead {
    /// Tells the letters of this bus from those of another.
    bus: uuid::Uuid,
    letters: Arc<Queue>,
    count: AtomicU64,
}

impl Dead {
    fn new() -> Self {
        let letters = Queue::new(Subscription::Dead.queue(), DEAD_LIMIT, Full::DropOldest);
        letters.declare();
        Self {
            bus: uuid::Uuid::new_v4(),
            letters: Arc::new(letters),
            count: AtomicU64::new(0),
        }
    }

    fn keep(&self, body: Vec<u8>, queue: &str, cause: DeathCause, reason: &str, deliveries: u32) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(reason, queue, bytes = body.len(), "a message is dead");
        let death = Death {
            message: format!("{}.{number}", self.bus.simple()),
            queue: queue.to_owned(),
            cause,
            reason: reason.to_owned(),
            sender: None,
            deliveries: Some(deliveries),
            at: Some(chrono::Utc::now()),
        };
        self.letters.bury(body, death);
    }
}

/// Locks; what is behind these locks is whole after every statement, also when its holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalBus {
    /// A bus with no work queues yet.
    #[must_use]
    pub fn new() -> Self {
        let deployment = Queue::new(
            Subscription::Deployment.queue(),
            DURABLE_LIMIT,
            Full::Refuse,
        );
        deployment.declare();
        let inner = Inner {
            work: Mutex::default(),
            deployment: Arc::new(deployment),
            readers: Mutex::default(),
            dead: Arc::new(Dead::new()),
            health: watch::Sender::new(BusHealth::Up),
            stop: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Ends every consumer; whatever is published afterwards is refused.
    pub fn close(&self) {
        self.inner.stop.cancel();
        self.inner.health.send_replace(BusHealth::Down {
            reason: BusError::Closed.to_string(),
        });
    }

    /// The newest dead letters that nobody has read, oldest first, at most a thousand.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.inner.dead.letters.waiting(|message| DeadLetter {
            body: message.body.clone(),
            reason: message
                .death
                .as_ref()
                .map(|death| death.reason.clone())
                .unwrap_or_default(),
        })
    }

    /// How many messages ever were dead.
    #[must_use]
    pub fn dead_count(&self) -> u64 {
        self.inner.dead.count.load(Ordering::Relaxed)
    }

    fn work_queue(&self, node: &NodeName) -> Arc<Queue> {
        let mut work = lock(&self.inner.work);
        let queue = work.entry(node.clone()).or_insert_with(|| {
            let name = Subscription::Work(node.clone()).queue();
            Arc::new(Queue::new(name, DURABLE_LIMIT, Full::Refuse))
        });
        Arc::clone(queue)
    }

    /// A queue of its own for a reader of what is broadcast.
    fn reader(&self, subscription: Subscription) -> Arc<Queue> {
        let queue = Queue::new(subscription.queue(), READER_LIMIT, Full::DropOldest);
        queue.declare();
        let queue = Arc::new(queue);
        lock(&self.inner.readers).push((subscription, Arc::downgrade(&queue)));
        queue
    }

    fn publish_work(&self, node: &NodeName, body: Vec<u8>) -> Result<(), BusError> {
        // Not created here: a queue that nobody declared takes nothing.
        let queue = lock(&self.inner.work).get(node).cloned();
        match queue {
            Some(queue) => queue.push(body, None).map(drop),
            None => Err(BusError::Unroutable {
                address: format!("work.{node}"),
            }),
        }
    }

    async fn publish_report(&self, body: Vec<u8>) -> Result<(), BusError> {
        let (safe, is_safe) = oneshot::channel();
        let position = self.inner.deployment.push(body, Some(safe))?;
        let waited = tokio::select! {
            () = self.inner.stop.cancelled() => return Err(BusError::Closed),
            waited = tokio::time::timeout(PUBLISH_TIMEOUT, is_safe) => waited,
        };
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => {
                // Its publisher sends it again: what nobody took yet need not come twice.
                self.inner.deployment.withdraw(position);
                Err(BusError::Unconfirmed)
            }
        }
    }

    fn broadcast(&self, address: &Address, body: &[u8]) {
        let mut readers = lock(&self.inner.readers);
        readers.retain(|(_, queue)| queue.strong_count() > 0);
        let listening = readers
            .iter()
            .filter(|(subscription, _)| hears(subscription, address));
        for queue in listening.filter_map(|(_, queue)| queue.upgrade()) {
            // Such a queue makes room by itself.
            let _ = queue.push(body.to_vec(), None);
        }
    }
}

/// Whether what is sent there is for who listens here.
fn hears(subscription: &Subscription, address: &Address) -> bool {
    match (subscription, address) {
        (Subscription::Telemetry(topics), Address::Telemetry(topic)) => topics.contains(topic),
        (Subscription::Events, Address::Events) => true,
        _ => false,
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn declare_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        self.work_queue(node).declare();
        Ok(())
    }

    async fn delete_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        self.work_queue(node).delete();
        Ok(())
    }

    async fn publish(&self, address: Address, body: Vec<u8>) -> Result<(), BusError> {
        if self.inner.stop.is_cancelled() {
            return Err(BusError::Closed);
        }
        match &address {
            Address::Work(node) => self.publish_work(node, body),
            Address::Deployment => self.publish_report(body).await,
            Address::Telemetry(_) | Address::Events => {
                self.broadcast(&address, &body);
                Ok(())
            }
        }
    }

    async fn consume(
        &self,
        subscription: Subscription,
        prefetch: u16,
    ) -> Result<Consumer, BusError> {
        if self.inner.stop.is_cancelled() {
            return Err(BusError::Closed);
        }
        let queue = match &subscription {
            Subscription::Work(node) => self.work_queue(node),
            Subscription::Deployment => Arc::clone(&self.inner.deployment),
            Subscription::Telemetry(_) | Subscription::Events => self.reader(subscription),
            Subscription::Dead => Arc::clone(&self.inner.dead.letters),
        };
        let prefetch = usize::from(prefetch.max(1));
        let (sender, receiver) = mpsc::channel(prefetch);
        let stop = self.inner.stop.child_token();
        let feeder = Feeder {
            queue,
            room: Arc::new(Semaphore::new(prefetch)),
            dead: Arc::clone(&self.inner.dead),
            deliveries: sender,
        };
        let token = stop.clone();
        tokio::spawn(async move { token.run_until_cancelled(feeder.run()).await });
        Ok(Consumer::new(receiver, stop))
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.inner.health.subscribe()
    }
}

/// Moves messages from a queue to one consumer, as many at once as it may hold.
struct Feeder {
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    dead: Arc<Dead>,
    deliveries: mpsc::Sender<Delivery>,
}

impl Feeder {
    async fn run(self) {
        loop {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            let message = self.queue.pop().await;
            let delivery = self.delivery(message, room);
            // A consumer that is gone drops the delivery, which gives the message back.
            if self.deliveries.send(delivery).await.is_err() {
                return;
            }
        }
    }

    fn delivery(&self, message: Message, room: OwnedSemaphorePermit) -> Delivery {
        // The reader may keep or change its copy; ours is delivered again when it must be.
        let body = message.body.clone();
        let redelivered = message.deliveries > 0;
        let death = message.death.clone();
        let answer = LocalAnswer {
            queue: Arc::clone(&self.queue),
            dead: Arc::clone(&self.dead),
            message,
            _room: room,
        };
        let delivery = Delivery::new(body, None, redelivered, Box::new(answer));
        match death {
            Some(death) => delivery.died(*death),
            None => delivery,
        }
    }
}

/// How a queue hears what became of a delivery.
struct LocalAnswer {
    queue: Arc<Queue>,
    dead: Arc<Dead>,
    message: Message,
    _room: OwnedSemaphorePermit,
}

#[async_trait]
impl Answer for LocalAnswer {
    async fn ack(self: Box<Self>) -> bool {
        self.message.done();
        true
    }

    async fn requeue(self: Box<Self>) {
        self.dropped();
    }

    async fn dead(self: Box<Self>, body: Vec<u8>, reason: &str) {
        let deliveries = self.message.deliveries + 1;
        let (queue, cause) = (&self.queue.name, DeathCause::Refused);
        self.dead.keep(body, queue, cause, reason, deliveries);
        self.message.done();
    }

    fn dropped(self: Box<Self>) {
        if let Err(mut message) = self.queue.give_back(self.message) {
            let body = std::mem::take(&mut message.body);
            let (queue, cause) = (&self.queue.name, DeathCause::Exhausted);
            self.dead
                .keep(body, queue, cause, Death::EXHAUSTED, message.deliveries);
            message.done();
        }
    }
}
