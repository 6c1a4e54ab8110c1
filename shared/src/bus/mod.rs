//! The bus: how messages travel between orchestrators and nodes.
//!
//! A [`Bus`] moves bodies and knows nothing of what they say. Two transports keep one contract,
//! which `conformance` checks on both: `amqp` (RabbitMQ, the fleet) and `local` (inside one
//! process, standalone).
//!
//! The contract:
//! - [`Bus::publish`] returns `Ok` once the message is *safe*: confirmed by the broker, or, in one
//!   process, where the loss of that process loses nothing: a report when it was acknowledged (its
//!   node forgets it then), a work request when it is queued (its row is the truth). It never
//!   returns `Ok` for a message that nobody could receive where that matters (work and reports),
//!   and it always returns within [`PUBLISH_TIMEOUT`]. After an error the message may still arrive.
//! - A delivery that is neither acknowledged nor rejected is delivered again, to whoever consumes
//!   then: handlers are safe to run twice. A handler never holds a delivery while it works for
//!   long; it journals and acknowledges. After [`DELIVERY_LIMIT`] deliveries without an answer the
//!   message goes to `dead`: it ends whoever takes it.
//! - Messages of one publisher to one queue arrive in the order they were published, except those
//!   that are delivered again.
//! - Consumers outlive connections: a [`Consumer`] waits while the transport reconnects with
//!   jittered back-off, declares what it needs again and goes on.

pub mod amqp;
pub mod batch;
#[cfg(any(test, feature = "conformance"))]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is a test: what it did not expect ends it"
)]
pub mod conformance;
mod death;
pub mod local;

pub use death::{Death, DeathCause};

use crate::message::TelemetryTopic;
use crate::name::NodeName;
use async_trait::async_trait;
use std::time::Duration;

/// The longest that a publish waits for its confirmation.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a message of a durable queue is delivered; the last time without an answer sends it to
/// `dead`.
pub const DELIVERY_LIMIT: u32 = 5;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The work queue of one node, `work.<node>`. Durable.
    Work(NodeName),
    /// The queue of reports from all nodes to any orchestrator. Durable.
    Deployment,
    /// To every orchestrator that listens; lost when none does.
    Telemetry(TelemetryTopic),
    /// From an orchestrator to all orchestrators that listen, itself included; lost when none does.
    Events,
}

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// One node's work queue. Only that node consumes it.
    Work(NodeName),
    /// The queue of reports; each message goes to one of its consumers.
    Deployment,
    /// A copy of everything said under these topics, from now on.
    Telemetry(Vec<TelemetryTopic>),
    /// A copy of every event, from now on.
    Events,
    /// The queue of dead letters; each goes to one of its consumers, and comes again until that
    /// acknowledges it. Only orchestrators may. Deliveries have a [`Delivery::death`].
    Dead,
}

impl Subscription {
    /// What a dead letter calls the queue that is read.
    #[must_use]
    pub fn queue(&self) -> String {
        match self {
            Self::Work(node) => format!("work.{node}"),
            Self::Deployment => "deployment".to_owned(),
            Self::Telemetry(_) => "telemetry".to_owned(),
            Self::Events => "events".to_owned(),
            Self::Dead => "dead".to_owned(),
        }
    }
}

/// Why a message could not be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The broker cannot be reached, or went away before it confirmed.
    #[error("the broker is away: {reason}")]
    Away {
        /// What the transport said, without credentials.
        reason: String,
    },
    /// The broker took the message and had no queue for it.
    #[error("no queue takes messages for {address}")]
    Unroutable {
        /// Where it should have gone.
        address: String,
    },
    /// No confirmation within [`PUBLISH_TIMEOUT`]; the message may or may not arrive.
    #[error("no confirmation within {} s", PUBLISH_TIMEOUT.as_secs())]
    Unconfirmed,
    /// The bus was closed by its owner.
    #[error("the bus is closed")]
    Closed,
    /// The broker refuses this for good: credentials, permissions or a conflicting declaration.
    #[error("the broker refuses: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl BusError {
    /// Whether trying again later can help without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Unroutable { .. } | Self::Unconfirmed => true,
            Self::Closed | Self::Refused { .. } => false,
        }
    }
}

/// Whether the transport works now, for `/readyz` and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusHealth {
    /// Connected.
    Up,
    /// Not connected; it tries again by itself.
    Down {
        /// Why, without credentials.
        reason: String,
    },
}

/// One transport.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Makes sure that a node's work queue exists. Asking twice is fine. Only orchestrators may.
    async fn declare_work_queue(&self, node: &NodeName) -> Result<(), BusError>;

    /// Removes a node's work queue with what is in it. Asking twice is fine. Only orchestrators may.
    async fn delete_work_queue(&self, node: &NodeName) -> Result<(), BusError>;

    /// Sends one body; see the contract in the module's comment.
    async fn publish(&self, address: Address, body: Vec<u8>) -> Result<(), BusError>;

    /// Starts to listen. `prefetch` bounds the deliveries that are neither acknowledged nor rejected.
    /// Returns at once; while the broker is away the consumer waits.
    async fn consume(
        &self,
        subscription: Subscription,
        prefetch: u16,
    ) -> Result<Consumer, BusError>;

    /// Whether the transport works now, and every change of that.
    fn health(&self) -> tokio::sync::watch::Receiver<BusHealth>;
}

/// A stream of deliveries. Dropping it ends the listening; what was not acknowledged goes back.
#[derive(Debug)]
pub struct Consumer {
    deliveries: tokio::sync::mpsc::Receiver<Delivery>,
    // Ends the transport's task for this consumer when the consumer is dropped.
    _guard: tokio_util::sync::DropGuard,
}

impl Consumer {
    /// For transports: a consumer fed by `deliveries`; `stop` is cancelled when it is dropped.
    #[must_use]
    pub fn new(
        deliveries: tokio::sync::mpsc::Receiver<Delivery>,
        stop: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self {
            deliveries,
            _guard: stop.drop_guard(),
        }
    }

    /// The next delivery; `None` once the bus is closed.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// A delivery that is already there.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }
}

/// One message, to be answered with exactly one of [`Delivery::ack`], [`Delivery::requeue`] and
/// [`Delivery::dead`]; dropping it is `requeue`.
pub struct Delivery {
    /// What was sent.
    pub body: Vec<u8>,
    /// Who sent it, as the broker vouches for it (the `user_id` property); none on transports or
    /// set-ups without identities.
    pub sender: Option<String>,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// How it died, on deliveries of [`Subscription::Dead`].
    pub death: Option<Death>,
    answer: Option<Box<dyn Answer>>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("bytes", &self.body.len())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// How a transport hears what became of a delivery.
#[async_trait]
pub trait Answer: Send + Sync {
    /// Done: forget it. `false` when the delivery is no longer ours (it will come again).
    async fn ack(self: Box<Self>) -> bool;
    /// Not done: deliver it again.
    async fn requeue(self: Box<Self>);
    /// Cannot be handled, ever: keep it in `dead` with the reason.
    async fn dead(self: Box<Self>, body: Vec<u8>, reason: &str);
    /// Dropped without an answer; must not block.
    fn dropped(self: Box<Self>);
}

impl Delivery {
    /// For transports.
    #[must_use]
    pub fn new(
        body: Vec<u8>,
        sender: Option<String>,
        redelivered: bool,
        answer: Box<dyn Answer>,
    ) -> Self {
        Self {
            body,
            sender,
            redelivered,
            death: None,
            answer: Some(answer),
        }
    }

    /// For transports: the same, as a dead letter.
    #[must_use]
    pub fn died(mut self, death: Death) -> Self {
        self.death = Some(death);
        self
    }

    /// Done. `false` when the delivery was no longer ours: it will come again, which is harmless.
    pub async fn ack(mut self) -> bool {
        match self.answer.take() {
            Some(answer) => answer.ack().await,
            None => false,
        }
    }

    /// Not done: deliver it again.
    pub async fn requeue(mut self) {
        if let Some(answer) = self.answer.take() {
            answer.requeue().await;
        }
    }

    /// Cannot be handled, ever: it is kept in `dead` with the reason, and counted.
    pub async fn dead(mut self, reason: &str) {
        if let Some(answer) = self.answer.take() {
            let body = std::mem::take(&mut self.body);
            answer.dead(body, reason).await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.dropped();
        }
    }
}
