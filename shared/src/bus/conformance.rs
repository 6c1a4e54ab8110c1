//! What every transport must do, as tests that each transport runs.
//!
//! A transport has a [`Fixture`] and says `conformance_tests!(…)`, which makes one test of each
//! function here. Nothing here waits for time to pass, only for things to happen.

use super::{
    Address, Bus, BusError, Consumer, DELIVERY_LIMIT, Death, DeathCause, Delivery, Subscription,
};
use crate::message::TelemetryTopic;
use crate::name::NodeName;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A fresh transport with nothing on it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The orchestrator's side.
    fn orchestrator(&self) -> Arc<dyn Bus>;
    /// A node's side.
    fn node(&self, name: &NodeName) -> Arc<dyn Bus>;
    /// Ends it and removes what it left behind.
    async fn finish(&self);
}

/// Makes a test of each function of the suite. The argument is an expression that makes a fixture.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests!(@each $fixture;
            work_arrives_in_order
            what_is_dropped_or_given_back_comes_again
            a_dropped_consumer_gives_back_what_it_held
            a_dead_letter_keeps_its_reason
            what_nobody_can_take_ends_in_dead
            a_dead_letter_comes_until_it_is_taken
            every_reader_hears_every_event
            telemetry_is_heard_by_topic
            work_for_nobody_is_refused
            the_routable_is_told_from_the_unroutable
            a_thousand_reports_at_once_all_arrive
            a_consumer_waits_for_its_queue
            a_queue_is_declared_and_deleted_twice
            prefetch_bounds_what_is_held
        );
    };
    (@each $fixture:expr; $($name:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let fixture = $fixture;
            $crate::bus::conformance::$name(&fixture).await;
            $crate::bus::conformance::Fixture::finish(&fixture).await;
        }
    )+};
}

/// A node's name for tests.
///
/// # Panics
/// When it is not one.
#[must_use]
pub fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

/// The next delivery, within [`PATIENCE`].
///
/// # Panics
/// When none comes.
pub async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
    next.expect("a delivery comes in time")
        .expect("the bus is open")
}

/// Publishes until it works, as every publisher of work and reports does.
///
/// # Panics
/// When it does not work within [`PATIENCE`].
pub async fn publish(bus: &dyn Bus, address: Address, body: &[u8]) {
    let publishing = async {
        while let Err(error) = bus.publish(address.clone(), body.to_vec()).await {
            assert!(error.is_transient(), "{error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, publishing)
        .await
        .expect("a message is published in time");
}

/// Asks until it works.
async fn declare(bus: &dyn Bus, name: &NodeName) {
    let declaring = async { while bus.declare_work_queue(name).await.is_err() {} };
    tokio::time::timeout(PATIENCE, declaring)
        .await
        .expect("a queue is declared in time");
}

async fn work_queue(fixture: &impl Fixture) -> (Arc<dyn Bus>, NodeName, Consumer) {
    let (bus, name) = (fixture.orchestrator(), node("a"));
    declare(&*bus, &name).await;
    let consumer = fixture
        .node(&name)
        .consume(Subscription::Work(name.clone()), 16)
        .await
        .unwrap();
    (bus, name, consumer)
}

/// Messages of one publisher to one queue arrive in order.
pub async fn work_arrives_in_order(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    for number in 0..100u8 {
        publish(&*bus, Address::Work(name.clone()), &[number]).await;
    }
    for number in 0..100u8 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.body, [number]);
        assert!(!delivery.redelivered);
        assert!(delivery.ack().await);
    }
    assert!(consumer.try_next().is_none());
}

/// A delivery without an answer, and one given back, comes again and says so.
pub async fn what_is_dropped_or_given_back_comes_again(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    publish(&*bus, Address::Work(name), b"x").await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert!(again.redelivered);
    again.requeue().await;
    let again = next(&mut consumer).await;
    assert!(again.redelivered);
    assert_eq!(again.body, b"x");
    assert!(again.ack().await);
}

/// What a consumer held when it went away goes to the next one, in order.
pub async fn a_dropped_consumer_gives_back_what_it_held(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    for number in 0..3u8 {
        publish(&*bus, Address::Work(name.clone()), &[number]).await;
    }
    let held = next(&mut consumer).await;
    drop(consumer);
    drop(held);
    let mut consumer = fixture
        .node(&name)
        .consume(Subscription::Work(name.clone()), 16)
        .await
        .unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let delivery = next(&mut consumer).await;
        seen.insert(delivery.body.clone());
        assert!(delivery.ack().await);
    }
}

/// What cannot be handled is kept with the reason and does not come again.
pub async fn a_dead_letter_keeps_its_reason(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    publish(&*bus, Address::Work(name.clone()), b"poison").await;
    publish(&*bus, Address::Work(name), b"good").await;
    next(&mut consumer).await.dead("it is poison").await;
    let good = next(&mut consumer).await;
    assert_eq!(good.body, b"good");
    assert!(good.ack().await);
    let (_letters, letter) = dead_letter(fixture).await;
    assert_eq!(letter.body, b"poison");
    let death = letter.death.clone().unwrap();
    let words = (&*death.queue, &*death.reason, death.cause);
    assert_eq!(words, ("work.a", "it is poison", DeathCause::Refused));
    assert_eq!(death.deliveries, Some(1));
    assert!(letter.ack().await);
}

/// A message that ends whoever takes it does not come for ever.
pub async fn what_nobody_can_take_ends_in_dead(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    publish(&*bus, Address::Work(name.clone()), b"poison").await;
    for _ in 0..DELIVERY_LIMIT {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.body, b"poison");
        delivery.requeue().await;
    }
    publish(&*bus, Address::Work(name), b"good").await;
    let good = next(&mut consumer).await;
    assert_eq!(good.body, b"good");
    assert!(good.ack().await);
    let (_letters, letter) = dead_letter(fixture).await;
    assert_eq!(letter.body, b"poison");
    let death = letter.death.clone().unwrap();
    assert_eq!(
        (&*death.queue, death.cause),
        ("work.a", DeathCause::Exhausted)
    );
    assert_eq!(death.reason, Death::EXHAUSTED);
    assert_eq!(death.deliveries, Some(DELIVERY_LIMIT));
    assert!(letter.ack().await);
}

/// No number of deliveries loses a dead letter, it is the same each time, and it is taken once.
pub async fn a_dead_letter_comes_until_it_is_taken(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    let mut letters = bus.consume(Subscription::Dead, 4).await.unwrap();
    for body in [b"same", b"same"] {
        publish(&*bus, Address::Work(name.clone()), body).await;
        next(&mut consumer).await.dead("no").await;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut letter = next(&mut letters).await;
        let message = letter.death.clone().unwrap().message;
        for _ in 0..=DELIVERY_LIMIT {
            letter.requeue().await;
            letter = next(&mut letters).await;
            // Two that wait may change places.
            while letter.death.as_ref().unwrap().message != message {
                letter.requeue().await;
                letter = next(&mut letters).await;
            }
        }
        assert!(letter.redelivered);
        assert!(letter.ack().await);
        seen.insert(message);
    }
    assert_eq!(seen.len(), 2, "alike, and two all the same");
    assert!(letters.try_next().is_none());
}

/// The dead letter, and the consumer that it must be answered on.
async fn dead_letter(fixture: &impl Fixture) -> (Consumer, Delivery) {
    let bus = fixture.orchestrator();
    let mut letters = bus.consume(Subscription::Dead, 4).await.unwrap();
    let letter = next(&mut letters).await;
    (letters, letter)
}

/// Reads what was said after all readers listened, up to the `end` mark.
async fn heard_between_marks(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        let delivery = next(consumer).await;
        let body = delivery.body.clone();
        delivery.ack().await;
        match body.as_slice() {
            b"probe" => {}
            b"end" => return heard,
            _ => heard.push(body),
        }
    }
}

/// Says something until everybody heard something: from then on they listen.
async fn until_all_listen(bus: &dyn Bus, address: &Address, consumers: &mut [&mut Consumer]) {
    for consumer in consumers {
        let listening = async {
            loop {
                publish(bus, address.clone(), b"probe").await;
                if let Ok(Some(delivery)) =
                    tokio::time::timeout(Duration::from_millis(50), consumer.next()).await
                {
                    delivery.ack().await;
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listening)
            .await
            .expect("the reader listens in time");
    }
}

/// Every reader gets its own copy of every event.
pub async fn every_reader_hears_every_event(fixture: &impl Fixture) {
    let bus = fixture.orchestrator();
    let mut first = bus.consume(Subscription::Events, 16).await.unwrap();
    let mut second = fixture
        .orchestrator()
        .consume(Subscription::Events, 16)
        .await
        .unwrap();
    until_all_listen(&*bus, &Address::Events, &mut [&mut first, &mut second]).await;
    for body in [&b"1"[..], b"2", b"3", b"end"] {
        publish(&*bus, Address::Events, body).await;
    }
    for consumer in [&mut first, &mut second] {
        assert_eq!(heard_between_marks(consumer).await, [b"1", b"2", b"3"]);
    }
}

/// A reader hears its topics and nothing else; with nobody listening publishing still works.
pub async fn telemetry_is_heard_by_topic(fixture: &impl Fixture) {
    let (bus, name) = (fixture.orchestrator(), node("a"));
    let node = fixture.node(&name);
    let (beat, log) = (
        Address::Telemetry(TelemetryTopic::Heartbeat),
        Address::Telemetry(TelemetryTopic::Log),
    );
    publish(&*node, beat.clone(), b"nobody hears").await;
    let mut beats = bus
        .consume(Subscription::Telemetry(vec![TelemetryTopic::Heartbeat]), 16)
        .await
        .unwrap();
    let both = vec![TelemetryTopic::Heartbeat, TelemetryTopic::Log];
    let mut all = bus
        .consume(Subscription::Telemetry(both), 16)
        .await
        .unwrap();
    until_all_listen(&*node, &beat, &mut [&mut beats, &mut all]).await;
    for (address, body) in [(&log, &b"line"[..]), (&beat, b"beat"), (&beat, b"end")] {
        publish(&*node, address.clone(), body).await;
    }
    assert_eq!(heard_between_marks(&mut beats).await, [b"beat"]);
    assert_eq!(heard_between_marks(&mut all).await, [b"line", b"beat"]);
}

/// Work for a node without a queue is refused, and so after its queue is deleted.
pub async fn work_for_nobody_is_refused(fixture: &impl Fixture) {
    let (bus, name, _consumer) = work_queue(fixture).await;
    let stranger = Address::Work(node("stranger"));
    let refused = bus.publish(stranger, b"x".to_vec()).await;
    assert!(
        matches!(refused, Err(BusError::Unroutable { .. })),
        "{refused:?}"
    );
    publish(&*bus, Address::Work(name.clone()), b"x").await;
    bus.delete_work_queue(&name).await.unwrap();
    let refused = bus.publish(Address::Work(name), b"x".to_vec()).await;
    assert!(
        matches!(refused, Err(BusError::Unroutable { .. })),
        "{refused:?}"
    );
}

/// Among many messages under way at once, exactly those without a queue are refused.
pub async fn the_routable_is_told_from_the_unroutable(fixture: &impl Fixture) {
    let (bus, name, mut consumer) = work_queue(fixture).await;
    let publishing = futures::future::join_all((0..300u32).map(|number| {
        let address = if number % 3 == 0 {
            node("stranger")
        } else {
            name.clone()
        };
        bus.publish(Address::Work(address), number.to_be_bytes().to_vec())
    }));
    let reading = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 200 {
            let delivery = next(&mut consumer).await;
            seen.insert(delivery.body.clone());
            assert!(delivery.ack().await);
        }
        seen
    };
    let (results, seen) = tokio::join!(publishing, reading);
    for (number, result) in (0..300u32).zip(results) {
        if number % 3 == 0 {
            assert!(
                matches!(result, Err(BusError::Unroutable { .. })),
                "{number}: {result:?}"
            );
        } else {
            assert_eq!(result, Ok(()), "{number}");
            assert!(seen.contains(number.to_be_bytes().as_slice()));
        }
    }
}

/// Many publishers at once, two consumers, nothing lost.
pub async fn a_thousand_reports_at_once_all_arrive(fixture: &impl Fixture) {
    let bus = fixture.orchestrator();
    let mut first = bus.consume(Subscription::Deployment, 64).await.unwrap();
    let mut second = fixture
        .orchestrator()
        .consume(Subscription::Deployment, 64)
        .await
        .unwrap();
    let name = node("a");
    let node = fixture.node(&name);
    let mut publishing = tokio::spawn(async move {
        let bodies: Vec<[u8; 4]> = (0..1000u32).map(u32::to_be_bytes).collect();
        futures::future::join_all(
            bodies
                .iter()
                .map(|body| publish(&*node, Address::Deployment, body)),
        )
        .await;
    });
    let mut seen = BTreeSet::new();
    let mut all_published = false;
    while seen.len() < 1000 || !all_published {
        let delivery = tokio::select! {
            done = &mut publishing, if !all_published => {
                done.unwrap();
                all_published = true;
                continue;
            }
            delivery = next(&mut first) => delivery,
            delivery = next(&mut second) => delivery,
        };
        seen.insert(delivery.body.clone());
        delivery.ack().await;
    }
}

/// A consumer that is there before its queue waits for it.
pub async fn a_consumer_waits_for_its_queue(fixture: &impl Fixture) {
    let (bus, name) = (fixture.orchestrator(), node("late"));
    let mut consumer = fixture
        .node(&name)
        .consume(Subscription::Work(name.clone()), 4)
        .await
        .unwrap();
    assert!(consumer.try_next().is_none());
    declare(&*bus, &name).await;
    publish(&*bus, Address::Work(name), b"x").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"x");
    assert!(delivery.ack().await);
}

/// Declaring and deleting say the same the second time, and neither loses what the other kept.
pub async fn a_queue_is_declared_and_deleted_twice(fixture: &impl Fixture) {
    let (bus, name) = (fixture.orchestrator(), node("a"));
    declare(&*bus, &name).await;
    publish(&*bus, Address::Work(name.clone()), b"kept").await;
    bus.declare_work_queue(&name).await.unwrap();
    let mut consumer = fixture
        .node(&name)
        .consume(Subscription::Work(name.clone()), 4)
        .await
        .unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"kept");
    assert!(delivery.ack().await);
    bus.delete_work_queue(&name).await.unwrap();
    bus.delete_work_queue(&name).await.unwrap();
    // The consumer goes on when the queue comes back.
    bus.declare_work_queue(&name).await.unwrap();
    publish(&*bus, Address::Work(name), b"new").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.body, b"new");
    assert!(delivery.ack().await);
}

/// No more than `prefetch` deliveries are held without an answer.
pub async fn prefetch_bounds_what_is_held(fixture: &impl Fixture) {
    let (bus, name) = (fixture.orchestrator(), node("a"));
    declare(&*bus, &name).await;
    let mut consumer = fixture
        .node(&name)
        .consume(Subscription::Work(name.clone()), 2)
        .await
        .unwrap();
    for number in 0..5u8 {
        publish(&*bus, Address::Work(name.clone()), &[number]).await;
    }
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let third = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(third.is_err(), "a third delivery although two are held");
    assert!(first.ack().await);
    assert_eq!(next(&mut consumer).await.body, [2]);
    assert!(second.ack().await);
}
