//! Following containers.

use crate::support::Fixture;
use futures::{Stream, StreamExt};
use node::docker::{ContainerChange, Engine, EngineEvent};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

type Events = Pin<Box<dyn Stream<Item = EngineEvent> + Send>>;

async fn next(events: &mut Events) -> EngineEvent {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .expect("no event came")
        .unwrap()
}

async fn next_change(events: &mut Events) -> ContainerChange {
    loop {
        if let EngineEvent::Container(event) = next(events).await {
            return event.change;
        }
    }
}

#[tokio::test]
async fn a_containers_life_is_told() {
    let (fixture, other) = (Fixture::new().await, Fixture::new().await);
    let mut events: Events = Box::pin(fixture.engine.events(&fixture.node));
    assert_eq!(next(&mut events).await, EngineEvent::Resync);
    // Another node's containers are not ours to hear of.
    other
        .engine
        .container_create(&other.container_order("x", "true").await)
        .await
        .unwrap();
    let order = fixture.container_order("app", "sleep 300").await;
    let id = fixture.engine.container_create(&order).await.unwrap();
    let EngineEvent::Container(created) = next(&mut events).await else {
        panic!("not a container's")
    };
    assert_eq!(
        (created.id, created.owner, created.change),
        (id.clone(), order.owner, ContainerChange::Created)
    );
    fixture.engine.container_start(&id).await.unwrap();
    assert_eq!(next_change(&mut events).await, ContainerChange::Started);
    fixture
        .engine
        .container_stop(&id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        next_change(&mut events).await,
        ContainerChange::Died { exit_code: 137 }
    );
    fixture.engine.container_remove(&id).await.unwrap();
    assert_eq!(next_change(&mut events).await, ContainerChange::Removed);
}

/// A socket in front of the engine's, whose connections can be cut.
struct Wire {
    path: PathBuf,
    carrying: JoinSet<()>,
}

impl Wire {
    fn lay(path: PathBuf) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock")
            .to_owned();
        let listener = UnixListener::bind(&path).unwrap();
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let engine = engine.clone();
                connections.spawn(async move {
                    let mut far = UnixStream::connect(engine).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { path, carrying }
    }

    /// Like an engine that is killed.
    async fn cut(mut self) -> PathBuf {
        self.carrying.shutdown().await;
        std::fs::remove_file(&self.path).unwrap();
        self.path
    }
}

#[tokio::test]
async fn after_a_break_the_follower_is_told_to_look_afresh() {
    let fixture = Fixture::new().await;
    let wire = Wire::lay(fixture.dir.path().join("engine.sock"));
    let engine = Engine::new(Some(format!("unix://{}", wire.path.display()))).unwrap();
    let mut events: Events = Box::pin(engine.events(&fixture.node));
    assert_eq!(next(&mut events).await, EngineEvent::Resync);
    let order = fixture.container_order("app", "sleep 300").await;
    let id = fixture.engine.container_create(&order).await.unwrap();
    assert_eq!(next_change(&mut events).await, ContainerChange::Created);

    let path = wire.cut().await;
    assert!(matches!(next(&mut events).await, EngineEvent::Lost(_)));
    // Happens unseen.
    fixture.engine.container_start(&id).await.unwrap();
    let _wire = Wire::lay(path);
    loop {
        match next(&mut events).await {
            EngineEvent::Lost(_) => {}
            EngineEvent::Resync => break,
            EngineEvent::Container(event) => {
                panic!("an event before the word to look afresh: {event:?}")
            }
        }
    }
    fixture.engine.container_remove(&id).await.unwrap();
    loop {
        if next_change(&mut events).await == ContainerChange::Removed {
            break;
        }
    }
}
