//! Collecting what is due for one address into one message.
//!
//! The first item is sent at once. What comes while it is under way travels together in the next
//! message: under load messages grow, and when there is little to do nothing waits.

use super::{Address, Bus, BusError};
use crate::message::{BODY_LIMIT, ITEMS_LIMIT, encode};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How a [`Batcher`] collects.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// The most items of one message.
    pub items: usize,
    /// The most items that wait; whoever sends more waits, or is told so.
    pub backlog: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            items: 256,
            backlog: 1024,
        }
    }
}

/// Sends items to one address, several in one message. Clones share it; its task ends by itself
/// once the last of them is dropped and what was left with it is sent.
pub struct Batcher<T> {
    items: mpsc::Sender<Due<T>>,
}

impl<T> Clone for Batcher<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
        }
    }
}

struct Due<T> {
    item: T,
    reply: Option<oneshot::Sender<Result<(), BusError>>>,
}

/// An item for which there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many items wait to be sent")]
pub struct NoRoom;

impl<T: Serialize + Send + Sync + 'static> Batcher<T> {
    /// Starts to collect for an address. Needs a tokio runtime.
    #[must_use]
    pub fn start(bus: Arc<dyn Bus>, address: Address, options: BatchOptions) -> Self {
        let (items, due) = mpsc::channel(options.backlog.max(1));
        let items_limit = options.items.clamp(1, ITEMS_LIMIT);
        tokio::spawn(collect(bus, address, items_limit, due));
        Self { items }
    }

    /// Sends an item and waits until it is safe, as [`Bus::publish`] says.
    ///
    /// # Errors
    /// What became of the message that it travelled in.
    pub async fn send(&self, item: T) -> Result<(), BusError> {
        let (reply, answer) = oneshot::channel();
        self.items
            .send(Due {
                item,
                reply: Some(reply),
            })
            .await
            .map_err(|_| BusError::Closed)?;
        answer.await.map_err(|_| BusError::Closed)?
    }

    /// Leaves an item to be sent, for what may be lost.
    ///
    /// # Errors
    /// [`NoRoom`] when too much waits already.
    pub fn offer(&self, item: T) -> Result<(), NoRoom> {
        self.items
            .try_send(Due { item, reply: None })
            .map_err(|_| NoRoom)
    }
}

async fn collect<T: Serialize>(
    bus: Arc<dyn Bus>,
    address: Address,
    limit: usize,
    mut due: mpsc::Receiver<Due<T>>,
) {
    let mut batch = Vec::new();
    while due.recv_many(&mut batch, limit).await > 0 {
        let (items, replies): (Vec<T>, Vec<_>) =
            batch.drain(..).map(|due| (due.item, due.reply)).unzip();
        let results = publish_all(&*bus, &address, &items).await;
        for (reply, result) in replies.into_iter().zip(results) {
            match (reply, result) {
                // Whoever sent the item may have stopped waiting.
                (Some(reply), result) => drop(reply.send(result)),
                (None, Err(error)) => tracing::debug!(?address, %error, "an item was lost"),
                (None, Ok(())) => {}
            }
        }
    }
}

/// Publishes items as one body, or as several when one would be too large; a result for each item.
async fn publish_all<T: Serialize>(
    bus: &dyn Bus,
    address: &Address,
    items: &[T],
) -> Vec<Result<(), BusError>> {
    let mut results = Vec::with_capacity(items.len());
    let mut parts = vec![items];
    while let Some(part) = parts.pop() {
        let body = encode(part);
        if body.len() <= BODY_LIMIT {
            let result = bus.publish(address.clone(), body).await;
            results.extend(std::iter::repeat_n(result, part.len()));
        } else if part.len() == 1 {
            let reason = format!("an item has {} bytes, more than {BODY_LIMIT}", body.len());
            results.push(Err(BusError::Refused { reason }));
        } else {
            let (left, right) = part.split_at(part.len() / 2);
            parts.extend([right, left]);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Subscription, local::LocalBus};
    use crate::message::decode;
    use crate::name::NodeName;

    fn work() -> NodeName {
        NodeName::parse("n").unwrap()
    }

    #[tokio::test]
    async fn what_piles_up_travels_together_and_in_order() {
        let bus = LocalBus::new();
        let mut reports = bus.consume(Subscription::Deployment, 16).await.unwrap();
        let batcher = Batcher::start(Arc::new(bus), Address::Deployment, BatchOptions::default());
        let sends = futures::future::join_all((0..100).map(|number| batcher.send(number)));
        let reads = async {
            let (mut numbers, mut bodies) = (Vec::new(), 0);
            while numbers.len() < 100 {
                let delivery = reports.next().await.unwrap();
                numbers.extend(decode::<i32>(&delivery.body).unwrap());
                bodies += 1;
                assert!(delivery.ack().await);
            }
            (numbers, bodies)
        };
        let (results, (numbers, bodies)) = tokio::join!(sends, reads);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(bodies < 10, "{bodies} messages");
    }

    #[tokio::test]
    async fn a_body_stays_within_the_limit_and_each_item_hears_its_own_result() {
        let bus = LocalBus::new();
        bus.declare_work_queue(&work()).await.unwrap();
        let mut requests = bus.consume(Subscription::Work(work()), 16).await.unwrap();
        let item = |length: usize| "x".repeat(length);
        let items = [
            item(1),
            item(BODY_LIMIT / 2),
            item(BODY_LIMIT + 1),
            item(BODY_LIMIT / 2),
            item(2),
        ];
        let results = publish_all(&bus, &Address::Work(work()), &items).await;
        assert_eq!(
            results.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, true, false, true, true]
        );
        let mut lengths = Vec::new();
        while lengths.len() < 4 {
            let delivery = requests.next().await.unwrap();
            lengths.extend(
                decode::<String>(&delivery.body)
                    .unwrap()
                    .iter()
                    .map(String::len),
            );
        }
        assert_eq!(lengths, [1, BODY_LIMIT / 2, BODY_LIMIT / 2, 2]);
    }

    #[tokio::test]
    async fn an_error_reaches_every_item_of_the_message() {
        let batcher = Batcher::start(
            Arc::new(LocalBus::new()),
            Address::Work(work()),
            BatchOptions::default(),
        );
        let results = futures::future::join_all((0..5).map(|number| batcher.send(number))).await;
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Err(BusError::Unroutable { .. }))),
            "{results:?}"
        );
    }
}
