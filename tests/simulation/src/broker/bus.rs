//! The way of one life of a process to the broker.

use super::{Broker, Holder, QueueName, Reader, State};
use crate::broker::queue::Queue;
use crate::life::Life;
use async_trait::async_trait;
use shared::bus::{
    Address, Answer, Bus, BusError, BusHealth, Consumer, Delivery, PUBLISH_TIMEOUT, Subscription,
};
use shared::name::NodeName;
use shared::simulation::{Effect, Gate};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The bus as one life of a process has it. When that life is over, so is its connection.
#[derive(Debug)]
pub(crate) struct ChaosBus {
    broker: Arc<Broker>,
    life: Arc<Life>,
    client: u64,
}

impl ChaosBus {
    pub(crate) fn connect(broker: &Arc<Broker>, life: &Arc<Life>) -> Self {
        let client = broker.introduce(life.who);
        let (broker, life) = (Arc::clone(broker), Arc::clone(life));
        tokio::spawn({
            let (broker, life) = (Arc::clone(&broker), Arc::clone(&life));
            async move {
                life.over().await;
                broker.forget(client);
            }
        });
        Self {
            broker,
            life,
            client,
        }
    }

    /// Waits until the broker can be reached, as long as a publish may take.
    async fn reached(&self) -> Result<(), BusError> {
        let mut health = self.health();
        let is_up = health.wait_for(|health| *health == BusHealth::Up);
        let waited = tokio::time::timeout(PUBLISH_TIMEOUT, is_up)
            .await
            .map(|found| found.map(drop));
        self.life.go_on().await;
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Away {
                reason: "it is simulated to be away".to_owned(),
            }),
        }
    }

    /// Asks something of the broker that it does at once.
    async fn ask<T>(&self, what: impl FnOnce(&mut State) -> T + Send) -> Result<T, BusError>
    where
        T: Send,
    {
        self.pass(Effect::Bus).await;
        self.reached().await?;
        tokio::time::sleep(self.broker.dice.millis(0, 3)).await;
        self.pass(Effect::Bus).await;
        let answer = what(&mut self.broker.state());
        self.broker.changed.notify_waiters();
        self.pass(Effect::BusDone).await;
        Ok(answer)
    }

    async fn pass(&self, effect: Effect) {
        // The broker says itself what it does not take.
        let _ = self.life.pass(effect).await;
    }

    async fn send(&self, address: &Address, body: &[u8]) -> Result<(), BusError> {
        let (broker, chaos) = (&self.broker, self.broker.chaos());
        let is_durable = matches!(address, Address::Work(_) | Address::Deployment);
        let happens = |thousandths| broker.dice.happens(thousandths);
        let way = broker.dice.millis(0, if happens(100) { 400 } else { 4 });
        if !is_durable {
            if !happens(chaos.unsaid) {
                broker.route(address, body, way);
            }
            return Ok(());
        }
        if happens(chaos.lost) {
            broker
                .trace
                .note(|| format!("{}: a message for {address:?} is lost", self.life.who));
            tokio::time::sleep(PUBLISH_TIMEOUT).await;
            return Err(BusError::Unconfirmed);
        }
        let copies = if happens(chaos.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            if !broker.route(address, body, way) {
                return Err(BusError::Unroutable {
                    address: format!("{address:?}"),
                });
            }
        }
        if happens(chaos.unheard) {
            tokio::time::sleep(PUBLISH_TIMEOUT).await;
            return Err(BusError::Unconfirmed);
        }
        tokio::time::sleep(broker.dice.millis(0, 3)).await;
        Ok(())
    }
}

#[async_trait]
impl Bus for ChaosBus {
    async fn declare_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        let name = QueueName::Work(node.clone());
        self.ask(|state| {
            state.queues.entry(name).or_default();
        })
        .await
    }

    async fn delete_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        let name = QueueName::Work(node.clone());
        self.ask(|state| {
            state.queues.remove(&name);
        })
        .await
    }

    async fn publish(&self, address: Address, body: Vec<u8>) -> Result<(), BusError> {
        let give_up = Instant::now() + PUBLISH_TIMEOUT;
        self.pass(Effect::Bus).await;
        self.reached().await?;
        let sent = tokio::time::timeout_at(give_up, self.send(&address, &body)).await;
        self.pass(Effect::BusDone).await;
        sent.unwrap_or(Err(BusError::Unconfirmed))
    }

    async fn consume(
        &self,
        subscription: Subscription,
        prefetch: u16,
    ) -> Result<Consumer, BusError> {
        self.pass(Effect::Bus).await;
        let holder = {
            let mut state = self.broker.state();
            state.next += 1;
            Holder {
                client: self.client,
                consumer: state.next,
            }
        };
        let queue = match subscription {
            Subscription::Work(node) => QueueName::Work(node),
            Subscription::Deployment => QueueName::Deployment,
            Subscription::Dead => QueueName::Dead,
            subscription => {
                let reader = Reader {
                    client: self.client,
                    subscription,
                };
                let mut state = self.broker.state();
                state.readers.insert(holder.consumer, reader);
                let name = QueueName::Reader(holder.consumer);
                state.queues.insert(name.clone(), Queue::default());
                name
            }
        };
        let (sender, deliveries) = mpsc::channel(usize::from(prefetch.max(1)));
        let stop = CancellationToken::new();
        let pump = Pump {
            broker: Arc::clone(&self.broker),
            life: Arc::clone(&self.life),
            queue,
            holder,
            prefetch: usize::from(prefetch.max(1)),
        };
        tokio::spawn(pump.run(sender, stop.clone()));
        Ok(Consumer::new(deliveries, stop))
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        let mut state = self.broker.state();
        match state.clients.get_mut(&self.client) {
            Some(client) => {
                let looking = watch::Sender::new(client.health());
                let receiver = looking.subscribe();
                client.health.retain(|looking| looking.receiver_count() > 0);
                client.health.push(looking);
                receiver
            }
            // Its life is over.
            None => watch::Sender::new(BusHealth::Up).subscribe(),
        }
    }
}

/// Moves deliveries from a queue to a consumer.
struct Pump {
    broker: Arc<Broker>,
    life: Arc<Life>,
    queue: QueueName,
    holder: Holder,
    prefetch: usize,
}

impl Pump {
    async fn run(self, sender: mpsc::Sender<Delivery>, stop: CancellationToken) {
        let pumping = async {
            loop {
                let taken = self
                    .broker
                    .take(&self.queue, self.holder, self.prefetch)
                    .await;
                let receipt = Receipt {
                    broker: Arc::clone(&self.broker),
                    life: Arc::clone(&self.life),
                    queue: self.queue.clone(),
                    holder: self.holder,
                    position: taken.position,
                    deliveries: taken.deliveries + 1,
                };
                let redelivered = taken.deliveries > 0;
                let mut delivery = Delivery::new(taken.body, None, redelivered, Box::new(receipt));
                if let Some(death) = taken.death {
                    delivery = delivery.died(*death);
                }
                if sender.send(delivery).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.life.over() => {}
            () = pumping => {}
        }
        let mut state = self.broker.state();
        if matches!(self.queue, QueueName::Reader(_)) {
            state.queues.remove(&self.queue);
            state.readers.remove(&self.holder.consumer);
        }
        let holder = self.holder;
        state.give_back(|by| *by == holder);
        drop(state);
        self.broker.changed.notify_waiters();
    }
}

/// What becomes of one delivery.
struct Receipt {
    broker: Arc<Broker>,
    life: Arc<Life>,
    queue: QueueName,
    holder: Holder,
    position: u64,
    /// How often it was delivered, this time included.
    deliveries: u32,
}

impl Receipt {
    fn give_back(&self, delay: Duration) {
        let mut state = self.broker.state();
        let (holder, position, due) = (self.holder, self.position, Instant::now() + delay);
        let queue = state.queues.get_mut(&self.queue);
        if let Some(lost) = queue.and_then(|queue| queue.put_off(holder, position, due)) {
            state.exhausted(&self.queue, lost);
        }
        drop(state);
        self.broker.changed.notify_waiters();
    }

    fn forget(&self) -> bool {
        let forgotten = self
            .broker
            .state()
            .queues
            .get_mut(&self.queue)
            .is_some_and(|queue| queue.forget(self.holder, self.position));
        self.broker.changed.notify_waiters();
        forgotten
    }
}

#[async_trait]
impl Answer for Receipt {
    async fn ack(self: Box<Self>) -> bool {
        let _ = self.life.pass(Effect::Bus).await;
        let may_come_again = !matches!(self.queue, QueueName::Reader(_)) && self.deliveries < 3;
        if may_come_again && self.broker.dice.happens(self.broker.chaos().unacknowledged) {
            // It left here and arrived nowhere.
            self.give_back(self.broker.dice.millis(0, 2000));
            return true;
        }
        self.forget()
    }

    async fn requeue(self: Box<Self>) {
        let _ = self.life.pass(Effect::Bus).await;
        self.give_back(Duration::ZERO);
    }

    async fn dead(self: Box<Self>, body: Vec<u8>, reason: &str) {
        let _ = self.life.pass(Effect::Bus).await;
        if self.forget() {
            let mut state = self.broker.state();
            state.bury(&self.queue, body, self.deliveries, Some(reason));
            drop(state);
            self.broker.changed.notify_waiters();
        }
    }

    fn dropped(self: Box<Self>) {
        if !self.life.is_over() {
            self.give_back(Duration::ZERO);
        }
    }
}
