//! Listening to one subscription: over every connection, on a channel of its own.

use super::super::{Answer, BusError, Delivery, Subscription};
use super::Lanes;
use super::death::{self, Notice};
use super::error::{STEP_TIMEOUT, from_lapin, within};
use super::link::{LinkState, Session, pause};
use super::topology::{Target, Topology, close};
use crate::message::{BODY_LIMIT, DecodeError};
use async_trait::async_trait;
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long a consumer of a durable queue may hear nothing and hold nothing before it subscribes
/// anew. When a quorum queue is deleted and declared again, RabbitMQ 3.10 neither says so nor
/// delivers from the new queue to the old subscription, which it still counts as one.
const RENEW_AFTER: Duration = Duration::from_secs(10);

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

/// Why listening on a channel came to an end.
enum Ended {
    /// The consumer was dropped or the bus closed.
    Dropped,
    /// Nothing was heard for long: it may be that nothing can be.
    Quiet,
    /// The channel or the connection failed, or the queue is not there.
    Failed(BusError),
}

impl Subscriber {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut said = None;
        let mut has_listened = false;
        while let Some(Some(session)) = stop.run_until_cancelled(self.next_session()).await {
            let error = match self.listen(&session, &mut has_listened).await {
                Ended::Dropped => return,
                Ended::Quiet => continue,
                Ended::Failed(error) => error,
            };
            // A queue that is not declared yet is waited for, and said once.
            if said.as_ref() != Some(&error) {
                self.say(&error, has_listened);
                said = Some(error);
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(pause()))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    fn say(&self, error: &BusError, has_listened: bool) {
        match (&self.subscription, error) {
            // The first start of a node: its queue is declared once its heartbeat was heard.
            (Subscription::Work(node), BusError::Unroutable { .. }) if !has_listened => {
                tracing::info!(%node, "waiting for the orchestrator to know this node");
            }
            (subscription, error) => {
                tracing::warn!(?subscription, %error, "not listening; trying again");
            }
        }
    }

    async fn next_session(&mut self) -> Option<Session> {
        let state = self
            .state
            .wait_for(|state| state.session().is_some())
            .await
            .ok()?;
        state.session().cloned()
    }

    /// Listens on one connection, on a channel of its own.
    async fn listen(&self, session: &Session, has_listened: &mut bool) -> Ended {
        let (channel, incoming) = match self.stop.run_until_cancelled(self.open(session)).await {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => return Ended::Failed(error),
            None => return Ended::Dropped,
        };
        tracing::debug!(subscription = ?self.subscription, "listening");
        *has_listened = true;
        let ended = self.forward(session, incoming).await;
        // Closing gives back what is not acknowledged. A channel that is gone already did so.
        if channel.status().connected() && close(&channel).await.is_err() {
            session.abandon();
        }
        ended
    }

    async fn forward(&self, session: &Session, mut incoming: lapin::Consumer) -> Ended {
        let (given_back, mut returns) = mpsc::unbounded_channel();
        let held = Arc::new(());
        let is_renewed = matches!(
            self.subscription,
            Subscription::Work(_) | Subscription::Deployment | Subscription::Dead
        );
        loop {
            let quiet = tokio::time::sleep(RENEW_AFTER);
            tokio::select! {
                () = self.stop.cancelled() => return Ended::Dropped,
                () = session.lost() => return Ended::Failed(BusError::Away { reason: "the connection was lost".to_owned() }),
                () = quiet, if is_renewed => if Arc::strong_count(&held) == 1 { return Ended::Quiet },
                Some(acker) = returns.recv() => give_back(&acker, session).await,
                next = incoming.next() => match next {
                    Some(Ok(delivery)) => {
                        let delivery = self.delivery(delivery, session, &given_back, &held);
                        let Some(delivery) = self.within_limit(delivery).await else {
                            continue;
                        };
                        // There is room for every delivery that the broker may have under way.
                        if self.deliveries.send(delivery).await.is_err() {
                            return Ended::Dropped;
                        }
                    }
                    Some(Err(error)) => return Ended::Failed(from_lapin(&error)),
                    None => return Ended::Failed(BusError::Unroutable { address: format!("{:?}", self.subscription) }),
                },
            }
        }
    }

    /// Sends a body that nobody would read to `dead` with the reason that its reader would give. They
    /// are dealt with here and one after the other, so that no queue of ours fills with them. Dead
    /// letters pass: what is kept of one is cut by whoever records it.
    async fn within_limit(&self, delivery: Delivery) -> Option<Delivery> {
        let size = delivery.body.len();
        if size <= BODY_LIMIT || self.subscription == Subscription::Dead {
            return Some(delivery);
        }
        let reason = DecodeError::TooLarge { size }.to_string();
        tracing::warn!(subscription = ?self.subscription, reason, "a delivery goes to dead unread");
        delivery.dead(&reason).await;
        None
    }

    async fn open(&self, session: &Session) -> Result<(Channel, lapin::Consumer), BusError> {
        let channel = within(session.connection.create_channel()).await?;
        within(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let queue = self.topology.prepare(&channel, &self.subscription).await?;
        let options = BasicConsumeOptions::default();
        let consuming =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let incoming = within(consuming).await?;
        Ok((channel, incoming))
    }

    fn delivery(
        &self,
        delivery: lapin::message::Delivery,
        session: &Session,
        given_back: &mpsc::UnboundedSender<Acker>,
        held: &Arc<()>,
    ) -> Delivery {
        let properties = &delivery.properties;
        let sender = properties.user_id().as_ref().map(ToString::to_string);
        let death = (self.subscription == Subscription::Dead)
            .then(|| death::read(properties, &delivery.data));
        let answer = AmqpAnswer {
            notice: Notice::of(&self.subscription, properties),
            acker: delivery.acker,
            session: session.clone(),
            lanes: Arc::clone(&self.lanes),
            given_back: given_back.clone(),
            _held: Arc::clone(held),
        };
        let delivery = Delivery::new(
            delivery.data,
            sender,
            delivery.redelivered,
            Box::new(answer),
        );
        match death {
            Some(death) => delivery.died(death),
            None => delivery,
        }
    }
}

/// Tells the broker to deliver again.
async fn give_back(acker: &Acker, session: &Session) {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    if tokio::time::timeout(STEP_TIMEOUT, acker.nack(options))
        .await
        .is_err()
    {
        session.abandon();
    }
    // An error means that the channel is gone, which gave the delivery back.
}

/// How the broker hears what became of a delivery.
struct AmqpAnswer {
    /// What is written beside the body if it is dead.
    notice: Notice,
    acker: Acker,
    session: Session,
    lanes: Arc<Lanes>,
    /// Deliveries that were dropped: at most as many as were prefetched.
    given_back: mpsc::UnboundedSender<Acker>,
    /// Counts the deliveries without an answer.
    _held: Arc<()>,
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
        let kept = self
            .lanes
            .publish(Target::Dead, body, Some(self.notice.headers(reason)))
            .await;
        if let Err(error) = kept {
            // The queue's own dead-lettering takes it to the same place, without our words.
            tracing::warn!(%error, reason, "a message is dead and its reason could not be kept with it");
            let options = BasicNackOptions {
                requeue: false,
                ..BasicNackOptions::default()
            };
            if tokio::time::timeout(STEP_TIMEOUT, self.acker.nack(options))
                .await
                .is_err()
            {
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
