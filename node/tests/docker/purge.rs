//! Removing a deployment.

use crate::support::Fixture;
use node::docker::{Purged, VolumeMount, volume_name};
use node::log_sink::LogSink;
use shared::name::ServiceName;
use tokio_util::sync::CancellationToken;

/// A deployment with an image, two containers, one of them stopped, a network and a volume.
async fn deployed(fixture: &Fixture) -> [String; 2] {
    let (log, _lines) = LogSink::collecting();
    let dockerfile = format!(
        "FROM busybox\nRUN echo {}\nCMD sleep 300\n",
        fixture.deployment
    );
    let order = fixture.build_order(&[("Dockerfile", &dockerfile)]);
    let image = fixture
        .engine
        .build(&order, &log, &CancellationToken::new())
        .await
        .unwrap();
    let mut one = fixture.container_order("one", "sleep 300").await;
    one.image.clone_from(&image.id);
    one.volumes = vec![VolumeMount {
        volume: volume_name(fixture.deployment, &ServiceName::parse("data").unwrap()),
        path: "/data".to_owned(),
        read_only: false,
    }];
    let first = fixture.run(&one).await;
    let second = fixture
        .engine
        .container_create(&fixture.container_order("two", "true").await)
        .await
        .unwrap();
    [first, second]
}

#[tokio::test]
async fn nothing_is_left_but_what_was_asked_to_stay() {
    let fixture = Fixture::new().await;
    deployed(&fixture).await;
    let all = Purged {
        containers: 2,
        networks: 1,
        images: 1,
        volumes: 0,
    };
    let purge = |volumes| {
        fixture
            .engine
            .purge_deployment(fixture.deployment, &fixture.node, volumes)
    };
    assert_eq!(purge(false).await, Ok(all));
    assert_eq!(purge(false).await, Ok(Purged::default()));
    assert_eq!(
        purge(true).await,
        Ok(Purged {
            volumes: 1,
            ..Purged::default()
        })
    );
    assert_eq!(purge(true).await, Ok(Purged::default()));
    assert_eq!(
        fixture.engine.images_of(fixture.deployment).await,
        Ok(vec![])
    );
    assert_eq!(
        fixture.engine.containers(&fixture.node, None).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_neighbour_keeps_everything() {
    let (leaving, staying) = (Fixture::new().await, Fixture::new().await);
    deployed(&leaving).await;
    let [running, _] = deployed(&staying).await;
    // The same deployment on another node of the same engine.
    let mut elsewhere = Fixture::new().await;
    elsewhere.deployment = leaving.deployment;
    let mut order = elsewhere.container_order("one", "sleep 300").await;
    order.name.push_str("-elsewhere");
    let moved = elsewhere.run(&order).await;

    leaving
        .engine
        .purge_deployment(leaving.deployment, &leaving.node, true)
        .await
        .unwrap();
    for (fixture, id) in [(&staying, running), (&elsewhere, moved)] {
        fixture
            .until(&id, |container| {
                container.state == node::docker::ContainerState::Running
            })
            .await;
    }
    assert_eq!(
        staying
            .engine
            .images_of(staying.deployment)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        staying
            .engine
            .containers(&staying.node, None)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn images_that_lost_their_tag_go_too() {
    let fixture = Fixture::new().await;
    let (log, _lines) = LogSink::collecting();
    for number in 0..2 {
        let dockerfile = format!("FROM busybox\nENV A={number}-{}\n", fixture.deployment);
        let order = fixture.build_order(&[("Dockerfile", &dockerfile)]);
        fixture
            .engine
            .build(&order, &log, &CancellationToken::new())
            .await
            .unwrap();
    }
    let images = fixture.engine.images_of(fixture.deployment).await.unwrap();
    assert_eq!(
        images.iter().filter(|image| image.tags.is_empty()).count(),
        1,
        "{images:?}"
    );
    fixture
        .engine
        .purge_deployment(fixture.deployment, &fixture.node, false)
        .await
        .unwrap();
    assert_eq!(
        fixture.engine.images_of(fixture.deployment).await,
        Ok(vec![])
    );
}
