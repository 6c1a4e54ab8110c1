//! The suite of every transport on a real RabbitMQ, and what only this one can suffer.
//!
//! `make test` starts a private broker and says where it is; each test has a virtual host of its own.

use super::test_broker::{TestBroker, setting};
use super::*;
use crate::bus::DeathCause;
use crate::bus::conformance::{Fixture, PATIENCE, next, node, publish};
use crate::message::BODY_LIMIT;
use crate::secret::SecretString;
use std::collections::BTreeSet;
use tokio::net::TcpListener;

crate::conformance_tests!(TestBroker::start().await);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing() {
    let broker = TestBroker::start().await;
    let orchestrator = broker.orchestrator();
    let node = broker.node(&node("a"));
    let mut reports = orchestrator
        .consume(Subscription::Deployment, 16)
        .await
        .unwrap();
    publish(&*node, Address::Deployment, &[]).await;
    next(&mut reports).await.ack().await;
    // The management interface learns of connections some seconds late.
    let cut = async {
        let mut cut = 0;
        while cut < 8 {
            cut += broker.cut_connections().await;
        }
    };
    let stop = CancellationToken::new();
    let publishing = async {
        let mut sent = 0u32;
        while !stop.is_cancelled() {
            publish(&*node, Address::Deployment, &sent.to_be_bytes()).await;
            sent += 1;
        }
        publish(&*node, Address::Deployment, b"end").await;
        sent
    };
    let reading = async {
        let mut seen = BTreeSet::new();
        loop {
            let delivery = next(&mut reports).await;
            let body = delivery.body.clone();
            delivery.ack().await;
            if body == b"end" {
                return seen;
            }
            seen.insert(body);
        }
    };
    let cutting = async {
        tokio::time::timeout(PATIENCE, cut)
            .await
            .expect("connections were cut");
        stop.cancel();
    };
    let ((), sent, seen) = tokio::join!(cutting, publishing, reading);
    assert_eq!(seen.len(), sent as usize, "every confirmed report arrived");
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_are_deleted_under_us_come_back() {
    let broker = TestBroker::start().await;
    let (orchestrator, name) = (broker.orchestrator(), node("a"));
    let node = broker.node(&name);
    orchestrator.declare_work_queue(&name).await.unwrap();
    let mut work = node
        .consume(Subscription::Work(name.clone()), 4)
        .await
        .unwrap();
    let mut reports = orchestrator
        .consume(Subscription::Deployment, 4)
        .await
        .unwrap();
    publish(&*node, Address::Deployment, b"1").await;
    assert!(next(&mut reports).await.ack().await);
    for queue in ["deployment", "work.a"] {
        broker.delete_queue(queue).await;
    }
    let refused = orchestrator
        .publish(Address::Work(name.clone()), b"2".to_vec())
        .await;
    assert!(
        matches!(refused, Err(BusError::Unroutable { .. })),
        "{refused:?}"
    );
    orchestrator.declare_work_queue(&name).await.unwrap();
    publish(&*orchestrator, Address::Work(name), b"2").await;
    assert!(next(&mut work).await.ack().await);
    // The reader of reports declares its own queue again; until then reports are refused, not lost.
    publish(&*node, Address::Deployment, b"3").await;
    let report = next(&mut reports).await;
    assert_eq!(report.body, b"3");
    assert!(report.ack().await);
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_vouches_for_the_sender_of_a_report() {
    let broker = TestBroker::start().await;
    let mut reports = broker
        .orchestrator()
        .consume(Subscription::Deployment, 4)
        .await
        .unwrap();
    let user = url::Url::parse(broker.url()).unwrap().username().to_owned();
    publish(&*broker.node(&node("a")), Address::Deployment, b"x").await;
    let report = next(&mut reports).await;
    assert_eq!(report.sender, Some(user));
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_declares_nothing_and_reads_only_its_own_queue() {
    let broker = TestBroker::start().await;
    let bus = broker.node(&node("a"));
    assert!(matches!(
        bus.declare_work_queue(&node("a")).await,
        Err(BusError::Refused { .. })
    ));
    for subscription in [
        Subscription::Work(node("b")),
        Subscription::Deployment,
        Subscription::Events,
    ] {
        assert!(matches!(
            bus.consume(subscription, 1).await,
            Err(BusError::Refused { .. })
        ));
    }
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_has_waited_long_does_not_cost_the_connection() {
    let broker = TestBroker::start().await;
    let bus = broker.bus(AmqpRole::Orchestrator);
    publish(&*bus, Address::Deployment, b"first").await;
    let deadline = Instant::now() + PUBLISH_TIMEOUT;
    let session = bus.publishing.session(deadline).await.unwrap();
    // The rest of the time of each is over before, while or after its message is on the channel.
    let mut late = 0;
    for rest in 0..200 {
        let deadline = Instant::now() + Duration::from_micros(20 * rest);
        let target = Target::Deployment;
        let published = bus.lanes.publish_until(deadline, target, vec![], None);
        match published.await {
            Err(BusError::Unconfirmed) => late += 1,
            published => published.unwrap(),
        }
    }
    assert!(late > 0);
    publish(&*bus, Address::Deployment, b"last").await;
    assert!(!session.is_lost());
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_dead_before_anybody_reads_it() {
    let broker = TestBroker::start().await;
    let orchestrator = broker.orchestrator();
    let consume = async |subscription| orchestrator.consume(subscription, 4).await.unwrap();
    let mut reports = consume(Subscription::Deployment).await;
    let mut dead = consume(Subscription::Dead).await;
    let node = broker.node(&node("a"));
    publish(&*node, Address::Deployment, b"first").await;
    assert!(next(&mut reports).await.ack().await);
    publish(&*node, Address::Deployment, &vec![b' '; BODY_LIMIT + 1]).await;
    publish(&*node, Address::Deployment, b"next").await;
    let report = next(&mut reports).await;
    assert_eq!(report.body, b"next");
    assert!(report.ack().await);
    let letter = next(&mut dead).await;
    assert_eq!(letter.body.len(), BODY_LIMIT + 1);
    let death = letter.death.clone().unwrap();
    assert_eq!(
        (&*death.queue, death.cause),
        ("deployment", DeathCause::Refused)
    );
    let reason = "the body has 4194305 bytes, more than 4194304";
    assert_eq!(death.reason, reason);
    assert!(letter.ack().await);
    broker.finish().await;
}

/// Waits for the reason why a bus is not connected, beyond that it only just began.
async fn why_down(url: String, tls: Option<AmqpTls>) -> String {
    let url = SecretString::from(url);
    let bus = AmqpBus::start(AmqpOptions {
        url,
        role: AmqpRole::Orchestrator,
        tls,
    })
    .unwrap();
    let mut health = bus.health();
    let down = health.wait_for(
        |health| matches!(health, BusHealth::Down { reason } if !reason.contains("connecting")),
    );
    let down = tokio::time::timeout(PATIENCE, down)
        .await
        .expect("the bus says why")
        .unwrap()
        .clone();
    bus.close().await;
    match down {
        BusHealth::Down { reason } => reason,
        BusHealth::Up => unreachable!("it waited for Down"),
    }
}

#[tokio::test]
async fn tls_is_never_left_out() {
    // A plaintext broker: an `amqps://` address must fail there, not be obeyed in the clear.
    let mut url = url::Url::parse(&setting("LONGSHORE_TEST_AMQP_URL")).unwrap();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), include_str!("tests/authority.pem")).unwrap();
    let tls = || {
        Some(AmqpTls {
            ca_file: authority.path().to_owned(),
            identity: None,
        })
    };
    url.set_scheme("amqps").unwrap();
    let reason = why_down(url.into(), tls()).await;
    assert!(!reason.is_empty());

    // And what is sent there first is the beginning of TLS, not a password.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "amqps://user:hunter2@{}/%2f",
        listener.local_addr().unwrap()
    );
    let bus = AmqpBus::start(AmqpOptions {
        url: url.into(),
        role: AmqpRole::Orchestrator,
        tls: tls(),
    })
    .unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut first = [0; 2];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut first)
        .await
        .unwrap();
    assert_eq!(first, [0x16, 0x03], "a TLS handshake record");
    bus.close().await;

    std::fs::write(authority.path(), "").unwrap();
    let reason = why_down("amqps://user:hunter2@127.0.0.1:1".to_owned(), tls()).await;
    assert!(reason.contains("has no certificate"), "{reason}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let mut url = url::Url::parse(&setting("LONGSHORE_TEST_AMQP_URL")).unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let reason = why_down(url.into(), None).await;
    assert!(
        reason.contains("refuse") && !reason.contains("hunter2"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_broker_that_is_away_or_mute_is_waited_for_with_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = format!("amqp://user:hunter2@{}/%2f", listener.local_addr().unwrap());
    let reason = why_down(mute, None).await;
    assert!(reason.contains("no answer within"), "{reason}");
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("amqp://user:hunter2@{}/%2f", listener.local_addr().unwrap())
    };
    let reason = why_down(gone.clone(), None).await;
    assert!(!reason.contains("hunter2"), "{reason}");

    let options = AmqpOptions {
        url: gone.into(),
        role: AmqpRole::Orchestrator,
        tls: None,
    };
    let bus = AmqpBus::start(options).unwrap();
    let publishing =
        tokio::time::timeout(PUBLISH_TIMEOUT * 2, bus.publish(Address::Events, vec![])).await;
    assert!(
        matches!(publishing, Ok(Err(BusError::Away { .. }))),
        "{publishing:?}"
    );
    bus.close().await;
}

#[test]
fn a_bus_that_is_closed_while_it_connects_leaves_nothing_behind() {
    let panics = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        heard.lock().unwrap().push(panic.to_string());
    }));
    for _ in 0..20 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let bus = AmqpBus::start(AmqpOptions {
                url: SecretString::from(format!("amqp://a:b@127.0.0.1:{port}/%2f")),
                role: AmqpRole::Orchestrator,
                tls: None,
            })
            .unwrap();
            tokio::task::yield_now().await;
            bus.close().await;
        });
        runtime.shutdown_background();
    }
    // lapin's threads end by themselves, well or not.
    let begun = std::time::Instant::now();
    while threads_of_lapin() > 0 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    drop(std::panic::take_hook());
    assert_eq!(*panics.lock().unwrap(), Vec::<String>::new());
}

fn threads_of_lapin() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin"))
        .count()
}
