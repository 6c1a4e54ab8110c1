//! Listening to one subscription: over every connection, on a channel of its own.

use super::super::{Answer, BusError, Delivery, Subscription};
use super::Lanes;
use super::error::{STEP_TIMEOUT, from_lapin, within};
use super::link::{LinkState, Session, pause};
use super::topology::{Target, Topology, close};
use async_trait::async_trait;
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often the broker is asked whether the queue still has a consumer: not every version tells
/// the consumers of a quorum queue that it was deleted.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Feeds one `Consumer` until that is dropped or the bus is closed.
pub(super) struct Subscriber {
    pub(super) subscription: Subscription,
    pub(super) prefetch: u16,
    pub(super) state: watch::Receiver<LinkState>,
    pub(super) topology: Arc<Topology>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) stop: CancellationToken,
}

impl Subscriber {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut said = None;
        while let Some(Some(session)) = stop.run_until_cancelled(self.next_session()).await {
            let Err(error) = self.listen(&session).await else { return };
            // A queue that is not declared yet is waited for, and said once.
            if said.as_ref() != Some(&error) {
                tracing::warn!(subscription = ?self.subscription, %error, "not listening; trying again");
                said = Some(error);
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause())).await.is_none() {
                return;
            }
        }
    }

    async fn next_session(&mut self) -> Option<Session> {
        let state = self.state.wait_for(|state| state.session().is_some()).await.ok()?;
        state.session().cloned()
    }

    /// Listens on one connection.
    ///
    /// # Errors
    /// Why it came to an end, unless the consumer was dropped.
    async fn listen(&self, session: &Session) -> Result<(), BusError> {
        let opened = self.stop.run_until_cancelled(self.open(session)).await;
        let Some(opened) = opened else { return Ok(()) };
        let (channel, mut incoming) = opened?;
        tracing::debug!(subscription = ?self.subscription, "listening");
        let (given_back, mut returns) = mpsc::unbounded_channel();
        let mut check = tokio::time::interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                () = self.stop.cancelled() => break Ok(()),
                () = session.lost() => break Err(BusError::Away { reason: "the connection was lost".to_owned() }),
                _ = check.tick() => match within(consumers(&channel, incoming.queue())).await {
                    Ok(0) => break Err(gone(&self.subscription)),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                },
                Some(acker) = returns.recv() => give_back(&acker, session).await,
                next = incoming.next() => match next {
                    Some(Ok(delivery)) => {
                        let delivery = self.delivery(delivery, session, &given_back);
                        // There is room for every delivery that the broker may have under way.
                        if self.deliveries.send(delivery).await.is_err() {
                            break Ok(());
                        }
                    }
                    Some(Err(error)) => break Err(from_lapin(&error)),
                    None => break Err(gone(&self.subscription)),
                },
            }
        };
        // Closing gives back what is not acknowledged. A channel that is gone already did so.
        if channel.status().connected() && close(&channel).await.is_err() {
            session.abandon();
        }
        ended
    }

    async fn open(&self, session: &Session) -> Result<(Channel, lapin::Consumer), BusError> {
        let channel = within(session.connection.create_channel()).await?;
        within(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let queue = self.topology.prepare(&channel, &self.subscription).await?;
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let incoming = within(consuming).await?;
        Ok((channel, incoming))
    }

    fn delivery(
        &self,
        delivery: lapin::message::Delivery,
        session: &Session,
        given_back: &mpsc::UnboundedSender<Acker>,
    ) -> Delivery {
        let sender = delivery.properties.user_id().as_ref().map(ToString::to_string);
        let answer = AmqpAnswer {
            acker: delivery.acker,
            session: session.clone(),
            lanes: Arc::clone(&self.lanes),
            given_back: given_back.clone(),
        };
        Delivery::new(delivery.data, sender, delivery.redelivered, Box::new(answer))
    }
}

/// How many consumers a queue has.
async fn consumers(channel: &Channel, queue: ShortString) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue, options, FieldTable::default()).await?;
    Ok(queue.consumer_count())
}

fn gone(subscription: &Subscription) -> BusError {
    BusError::Unroutable { address: format!("{subscription:?}: its queue was deleted") }
}

/// Tells the broker to deliver again.
async fn give_back(acker: &Acker, session: &Session) {
    let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    if tokio::time::timeout(STEP_TIMEOUT, acker.nack(options)).await.is_err() {
        session.abandon();
    }
    // An error means that the channel is gone, which gave the delivery back.
}

/// How the broker hears what became of a delivery.
struct AmqpAnswer {
    acker: Acker,
    session: Session,
    lanes: Arc<Lanes>,
    /// Deliveries that were dropped: at most as many as were prefetched.
    given_back: mpsc::UnboundedSender<Acker>,
}

#[async_trait]
impl Answer for AmqpAnswer {
    async fn ack(self: Box<Self>) -> bool {
        match tokio::time::timeout(STEP_TIMEOUT, self.acker.ack(BasicAckOptions::default())).await {
            Ok(Ok(ours)) => ours,
            Ok(Err(_)) => false,
            Err(_) => {
                self.session.abandon();
                false
            }
        }
    }

    async fn requeue(self: Box<Self>) {
        give_back(&self.acker, &self.session).await;
    }

    async fn dead(self: Box<Self>, body: Vec<u8>, reason: &str) {
        let kept = self.lanes.publish(Target::Dead, body, Some(reason.to_owned())).await;
        if let Err(error) = kept {
            // The queue's own dead-lettering takes it to the same place, without our words.
            tracing::warn!(%error, reason, "a message is dead and its reason could not be kept with it");
            let options = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
            if tokio::time::timeout(STEP_TIMEOUT, self.acker.nack(options)).await.is_err() {
                self.session.abandon();
            }
            return;
        }
        self.ack().await;
    }

    fn dropped(self: Box<Self>) {
        // When the subscriber is gone its channel is closed, which gives the delivery back too.
        let _ = self.given_back.send(self.acker);
    }
}
