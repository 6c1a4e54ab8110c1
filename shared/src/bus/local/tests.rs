//! The suite of every transport, and what only this one does.

use super::*;
use crate::bus::conformance::{Fixture, next, node};

struct Local(LocalBus);

#[async_trait]
impl Fixture for Local {
    fn orchestrator(&self) -> Arc<dyn Bus> {
        Arc::new(self.0.clone())
    }

    fn node(&self, _: &NodeName) -> Arc<dyn Bus> {
        Arc::new(self.0.clone())
    }

    async fn finish(&self) {
        self.0.close();
    }
}

crate::conformance_tests!(Local(LocalBus::new()));

#[tokio::test]
async fn a_report_is_safe_only_when_it_was_acknowledged() {
    let bus = LocalBus::new();
    let mut reports = bus.consume(Subscription::Deployment, 1).await.unwrap();
    let publisher = bus.clone();
    let publishing =
        tokio::spawn(async move { publisher.publish(Address::Deployment, b"x".to_vec()).await });
    next(&mut reports).await.requeue().await;
    let again = next(&mut reports).await;
    assert!(!publishing.is_finished());
    assert!(again.ack().await);
    assert_eq!(publishing.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_withdrawn_message_is_not_delivered() {
    let queue = Queue::new("q".to_owned(), 4, Full::Refuse);
    queue.declare();
    let position = queue.push(b"x".to_vec(), None).unwrap();
    queue.push(b"y".to_vec(), None).unwrap();
    queue.withdraw(position);
    assert_eq!(queue.pop().await.body, b"y");
}

#[tokio::test]
async fn memory_is_bounded() {
    let bus = LocalBus::new();
    let name = node("a");
    bus.declare_work_queue(&name).await.unwrap();
    for _ in 0..DURABLE_LIMIT {
        bus.publish(Address::Work(name.clone()), vec![])
            .await
            .unwrap();
    }
    let refused = bus.publish(Address::Work(name), vec![]).await;
    assert!(matches!(refused, Err(BusError::Away { .. })), "{refused:?}");

    let reader = bus.reader(Subscription::Events);
    for number in 0..=READER_LIMIT {
        bus.publish(Address::Events, number.to_be_bytes().to_vec())
            .await
            .unwrap();
    }
    assert_eq!(
        reader.pop().await.body,
        1usize.to_be_bytes(),
        "the oldest is gone"
    );
}

#[tokio::test]
async fn a_closed_bus_ends_its_consumers_and_publishers() {
    let bus = LocalBus::new();
    let mut reports = bus.consume(Subscription::Deployment, 1).await.unwrap();
    bus.close();
    assert!(reports.next().await.is_none());
    assert_eq!(
        bus.publish(Address::Deployment, vec![]).await,
        Err(BusError::Closed)
    );
    assert_ne!(*bus.health().borrow(), BusHealth::Up);
}
