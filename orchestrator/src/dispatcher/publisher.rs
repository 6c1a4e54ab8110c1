//! Sends recorded work requests until their nodes have them.

use crate::event::Wake;
use crate::store::{PublishableWork, Store, StoreError};
use futures::future::join_all;
use shared::bus::{Address, Bus, BusError};
use shared::id::WorkId;
use shared::message::{WorkItem, WorkRequest, encode};
use shared::name::NodeName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How many work requests are sent at once, over all nodes.
const BATCH: u64 = 500;
/// How many travel in one message.
const MESSAGE: usize = 100;
/// How long a claim holds.
const LEASE: Duration = Duration::from_secs(10);
/// How long a node may take to put a work request into its journal before it is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until a look without a wake-up, and after a failure.
const SWEEP: Duration = Duration::from_secs(2);

/// Sends recorded work requests.
pub(crate) struct Publisher {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) wake: Arc<Wake>,
    /// What the placer has just recorded as sent.
    pub(crate) orders: mpsc::Receiver<Vec<PublishableWork>>,
}

impl Publisher {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if let Err(error) = self.store.work_republish().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what was sent before this start is sent again a little later"
            );
        }
        let mut look = tokio::time::interval(SWEEP);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let orders = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(orders) = self.orders.recv() => Some(orders),
                () = self.wake.publisher.notified() => None,
                _ = look.tick() => None,
            };
            let outcome = match orders {
                Some(orders) => self.publish_new(orders).await,
                None => self.publish_rest().await,
            };
            match outcome {
                // There may be more.
                Ok(Sent::All) => self.wake.publisher.notify_one(),
                Ok(Sent::Nothing | Sent::NotAll) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "work requests could not be sent; trying again"
                ),
            }
        }
    }

    /// Sends what the placer handed over, then what is claimed: nothing that follows an order, such
    /// as a cancel, overtakes it.
    async fn publish_rest(&mut self) -> Result<Sent, StoreError> {
        while let Ok(orders) = self.orders.try_recv() {
            self.publish_new(orders).await?;
        }
        self.publish_due().await
    }

    /// Sends what is recorded as sent. What cannot be sent is given back.
    async fn publish_new(&self, orders: Vec<PublishableWork>) -> Result<Sent, StoreError> {
        let (sent, unsent) = self.publish_all(orders).await;
        metrics::counter!("longshore_work_published_total").increment(sent.len() as u64);
        self.store.work_unsent(&unsent).await?;
        Ok(Sent::Nothing)
    }

    async fn publish_due(&self) -> Result<Sent, StoreError> {
        let (token, due) = self.store.work_publishable(BATCH, LEASE, PATIENCE).await?;
        if due.is_empty() {
            return Ok(Sent::Nothing);
        }
        shared::fail_point!("orchestrator::publish::after_claim_before_publish");
        let (sent, unsent) = self.publish_all(due).await;
        self.store.work_unpublished(token, &unsent).await?;
        self.store.work_published(token, &sent).await?;
        metrics::counter!("longshore_work_published_total").increment(sent.len() as u64);
        Ok(if unsent.is_empty() {
            Sent::All
        } else {
            Sent::NotAll
        })
    }

    /// Sends all of it; which were sent, and which were not.
    async fn publish_all(&self, work: Vec<PublishableWork>) -> (Vec<WorkId>, Vec<WorkId>) {
        let sending = messages(work)
            .into_iter()
            .map(|message| self.publish(message));
        let (mut sent, mut unsent) = (Vec::new(), Vec::new());
        for (ids, is_sent) in join_all(sending).await {
            if is_sent {
                sent.extend(ids)
            } else {
                unsent.extend(ids)
            }
        }
        shared::fail_point!("orchestrator::publish::after_publish_before_mark");
        (sent, unsent)
    }

    async fn publish(&self, message: Message) -> (Vec<WorkId>, bool) {
        let ids = message.requests.iter().map(|request| request.id).collect();
        let items: Vec<WorkItem> = message.requests.into_iter().map(WorkItem::from).collect();
        let body = encode(&items);
        match self
            .bus
            .publish(Address::Work(message.node.clone()), body)
            .await
        {
            Ok(()) => (ids, true),
            Err(error) => {
                tracing::warn!(node.name = %message.node, %error, "work for node {} was not sent; it is sent again", message.node);
                if matches!(error, BusError::Unroutable { .. }) {
                    self.declare(&message.node).await;
                }
                (ids, false)
            }
        }
    }

    /// The queue is gone, with a broker that lost its data for instance; the rows are not.
    async fn declare(&self, node: &NodeName) {
        match self.bus.declare_work_queue(node).await {
            Ok(()) => self.wake.publisher.notify_one(),
            Err(error) => {
                tracing::warn!(node.name = %node, %error, "the work queue of node {node} could not be declared")
            }
        }
    }
}

enum Sent {
    Nothing,
    All,
    NotAll,
}

struct Message {
    node: NodeName,
    requests: Vec<WorkRequest>,
}

/// One message a node, or a few where there is much: in the order of the rows.
fn messages(due: Vec<PublishableWork>) -> Vec<Message> {
    let mut by_node: BTreeMap<NodeName, Vec<WorkRequest>> = BTreeMap::new();
    for work in due {
        if work.attempts > 0 {
            tracing::info!(work.id = %work.request.id, node.name = %work.node, attempts = work.attempts, "sending a work request again");
        }
        by_node.entry(work.node).or_default().push(work.request);
    }
    by_node
        .into_iter()
        .flat_map(|(node, requests)| {
            let chunks: Vec<Message> = requests
                .chunks(MESSAGE)
                .map(|chunk| Message {
                    node: node.clone(),
                    requests: chunk.to_vec(),
                })
                .collect();
            chunks
        })
        .collect()
}
