//! What is declared in the broker, and what each address and subscription means there.
//!
//! | name | kind | for |
//! |---|---|---|
//! | `work.<node>` | quorum queue | work requests to one node, sent through the default exchange |
//! | `deployment` | quorum queue behind a fanout exchange | reports of all nodes |
//! | `telemetry` | topic exchange | heartbeats and log lines; each reader has a queue of its own |
//! | `events` | fanout exchange | orchestrator to orchestrators; each reader has a queue of its own |
//! | `dead` | quorum queue behind a fanout exchange | what cannot be handled, with the reason |
//!
//! Only orchestrators declare; a node's account needs no more than
//! `configure ^$`, `write ^(deployment|telemetry|dead)$`, `read ^work\.<node>$`.

use super::super::{Address, BusError, Subscription};
use super::AmqpRole;
use super::error::within;
use super::link::Session;
use crate::message::TelemetryTopic;
use crate::name::NodeName;
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};
use std::collections::BTreeSet;
use std::sync::Mutex;

const DEPLOYMENT: &str = "deployment";
const TELEMETRY: &str = "telemetry";
const EVENTS: &str = "events";
pub(super) const DEAD: &str = "dead";

/// How often a message comes again before it goes to `dead`: it ends whoever takes it.
const DELIVERY_LIMIT: i32 = super::super::DELIVERY_LIMIT as i32 - 1;
/// Work requests that wait for one node. Rows are the truth: what does not fit is sent later.
const WORK_LIMIT: i32 = 10_000;
/// Dead letters that are kept; the oldest go first.
const DEAD_LIMIT: i32 = 10_000;
/// Messages and bytes that wait for a slow reader of `telemetry` or `events`; the oldest go first.
const READER_LIMIT: i32 = 10_000;
const READER_LIMIT_BYTES: i32 = 64 * 1024 * 1024;

fn work_queue(node: &NodeName) -> String {
    format!("work.{node}")
}

/// Where a message goes, in the broker's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Work(NodeName),
    Deployment,
    Telemetry(TelemetryTopic),
    Events,
    Dead,
}

impl Target {
    /// How many values [`Target::kind`] has.
    pub(super) const KINDS: usize = 5;

    pub(super) fn of(address: &Address) -> Self {
        match address {
            Address::Work(node) => Self::Work(node.clone()),
            Address::Deployment => Self::Deployment,
            Address::Telemetry(topic) => Self::Telemetry(*topic),
            Address::Events => Self::Events,
        }
    }

    /// Which lane it takes.
    pub(super) const fn kind(&self) -> usize {
        match self {
            Self::Work(_) => 0,
            Self::Deployment => 1,
            Self::Telemetry(_) => 2,
            Self::Events => 3,
            Self::Dead => 4,
        }
    }

    pub(super) const fn exchange(&self) -> &'static str {
        match self {
            // The default exchange, which reaches every queue by its name.
            Self::Work(_) => "",
            Self::Deployment => DEPLOYMENT,
            Self::Telemetry(_) => TELEMETRY,
            Self::Events => EVENTS,
            Self::Dead => DEAD,
        }
    }

    pub(super) fn routing_key(&self) -> String {
        match self {
            Self::Work(node) => work_queue(node),
            Self::Telemetry(topic) => topic.routing_key().to_owned(),
            Self::Deployment | Self::Events | Self::Dead => String::new(),
        }
    }

    /// Whether the message must reach a queue and outlive the broker.
    pub(super) const fn is_durable(&self) -> bool {
        matches!(self, Self::Work(_) | Self::Deployment | Self::Dead)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Work(node) => f.write_str(&work_queue(node)),
            other => f.write_str(other.exchange()),
        }
    }
}

/// Declares what is needed, at every new connection again.
pub(super) struct Topology {
    role: AmqpRole,
    /// Work queues that this orchestrator asked for: declared again when the broker lost its data.
    nodes: Mutex<BTreeSet<NodeName>>,
}

impl Topology {
    pub(super) const fn new(role: AmqpRole) -> Self {
        Self {
            role,
            nodes: Mutex::new(BTreeSet::new()),
        }
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeSet<NodeName>> {
        // A set of names is whole also after a panic elsewhere.
        self.nodes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Declares everything, when that is ours to do.
    pub(super) async fn declare(&self, session: &Session) -> Result<(), BusError> {
        if self.role != AmqpRole::Orchestrator {
            return Ok(());
        }
        let nodes: Vec<NodeName> = self.nodes().iter().cloned().collect();
        let channel = within(session.connection.create_channel()).await?;
        declare_shared(&channel).await?;
        for node in &nodes {
            declare_work(&channel, node).await?;
        }
        close(&channel).await
    }

    pub(super) async fn declare_work_queue(
        &self,
        session: &Session,
        node: &NodeName,
    ) -> Result<(), BusError> {
        let channel = within(session.connection.create_channel()).await?;
        declare_work(&channel, node).await?;
        self.nodes().insert(node.clone());
        close(&channel).await
    }

    pub(super) async fn delete_work_queue(
        &self,
        session: &Session,
        node: &NodeName,
    ) -> Result<(), BusError> {
        self.nodes().remove(node);
        let channel = within(session.connection.create_channel()).await?;
        // A queue that is not there is deleted with success.
        within(channel.queue_delete(work_queue(node).into(), QueueDeleteOptions::default()))
            .await?;
        close(&channel).await
    }

    /// Whether this role reads that at all; the broker would say no, but only in a log.
    pub(super) fn may_consume(&self, subscription: &Subscription) -> Result<(), BusError> {
        let is_ours = match (&self.role, subscription) {
            (AmqpRole::Node(name), Subscription::Work(node)) => name == node,
            (AmqpRole::Node(_), _) => false,
            (AmqpRole::Orchestrator, _) => true,
        };
        if is_ours {
            Ok(())
        } else {
            Err(BusError::Refused {
                reason: format!("{:?} may not read {subscription:?}", self.role),
            })
        }
    }

    /// Makes sure that there is a queue to consume, and gives its name.
    pub(super) async fn prepare(
        &self,
        channel: &Channel,
        subscription: &Subscription,
    ) -> Result<String, BusError> {
        match subscription {
            Subscription::Work(node) => Ok(work_queue(node)),
            Subscription::Deployment => {
                // Somebody may have deleted it while we were connected.
                declare_shared(channel).await?;
                Ok(DEPLOYMENT.to_owned())
            }
            Subscription::Telemetry(topics) => {
                let queue = declare_reader(channel).await?;
                for topic in topics {
                    bind(channel, &queue, TELEMETRY, topic.routing_key()).await?;
                }
                Ok(queue)
            }
            Subscription::Events => {
                let queue = declare_reader(channel).await?;
                bind(channel, &queue, EVENTS, "").await?;
                Ok(queue)
            }
            Subscription::Dead => {
                declare_shared(channel).await?;
                Ok(DEAD.to_owned())
            }
        }
    }
}

async fn declare_shared(channel: &Channel) -> Result<(), BusError> {
    for (name, kind) in [
        (DEAD, ExchangeKind::Fanout),
        (DEPLOYMENT, ExchangeKind::Fanout),
        (TELEMETRY, ExchangeKind::Topic),
        (EVENTS, ExchangeKind::Fanout),
    ] {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        within(channel.exchange_declare(name.into(), kind, options, FieldTable::default())).await?;
    }
    let dead = table([
        ("x-queue-type", text("quorum")),
        ("x-max-length", number(DEAD_LIMIT)),
    ]);
    declare_durable(channel, DEAD, dead).await?;
    bind(channel, DEAD, DEAD, "").await?;
    declare_durable(channel, DEPLOYMENT, dead_lettering([])).await?;
    bind(channel, DEPLOYMENT, DEPLOYMENT, "").await
}

async fn declare_work(channel: &Channel, node: &NodeName) -> Result<(), BusError> {
    let arguments = dead_lettering([("x-max-length", number(WORK_LIMIT))]);
    declare_durable(channel, &work_queue(node), arguments).await
}

/// The arguments of a queue whose messages must not be lost, also not on their way to `dead`:
/// that is what `at-least-once` means, and it needs `reject-publish`.
fn dead_lettering<const N: usize>(more: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", number(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(DEAD)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]);
    for (name, value) in more {
        arguments.insert(name.into(), value);
    }
    arguments
}

async fn declare_durable(
    channel: &Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<(), BusError> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    within(channel.queue_declare(queue.into(), options, arguments))
        .await
        .map(drop)
}

/// A queue for one reader, gone with its connection.
async fn declare_reader(channel: &Channel) -> Result<String, BusError> {
    declare_shared(channel).await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let limits = table([
        ("x-max-length", number(READER_LIMIT)),
        ("x-max-length-bytes", number(READER_LIMIT_BYTES)),
    ]);
    let queue = within(channel.queue_declare("".into(), options, limits)).await?;
    Ok(queue.name().to_string())
}

async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    routing_key: &str,
) -> Result<(), BusError> {
    let options = QueueBindOptions::default();
    let arguments = FieldTable::default();
    within(channel.queue_bind(
        queue.into(),
        exchange.into(),
        routing_key.into(),
        options,
        arguments,
    ))
    .await
}

/// Closes a channel that was opened for a few declarations.
pub(super) async fn close(channel: &Channel) -> Result<(), BusError> {
    within(channel.close(200, "done".into())).await
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

const fn number(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
