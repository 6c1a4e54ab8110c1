//! Opening a database, and living with one that goes away.

use crate::stage::{Stage, git_deployment};
use orchestrator::query::Page;
use orchestrator::store::{Store, StoreError};
use shared::secret::SecretString;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

both! {
    async fn opening_again_changes_nothing(stage: Stage) {
        let deployment = stage.create("demo").await;
        let again = stage.second_store().await;
        assert_eq!(again.incarnation(), stage.store.incarnation());
        assert!(again.ping().await.is_ok());
        assert_eq!(stage.deployment(deployment.id).await, deployment);
    }

    async fn eight_writers_never_hear_that_the_database_is_busy(stage: Stage) {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let commands = stage.commands.clone();
            tasks.spawn(async move {
                for round in 0..20 {
                    let made = commands.create(git_deployment(&format!("app-{task}-{round}"))).await.unwrap();
                    commands.redeploy(made.id, None).await.unwrap();
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let page = Page { first: Some(200), after: None };
        assert_eq!(stage.queries.deployments_page(&Default::default(), &page).await.unwrap().edges.len(), 160);
    }

    async fn many_opening_at_once_migrate_once(stage: Stage) {
        let url = SecretString::from(stage.url.clone());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let url = url.clone();
            tasks.spawn(async move { Store::open(&url, &CancellationToken::new()).await.unwrap().incarnation() });
        }
        while let Some(incarnation) = tasks.join_next().await {
            assert_eq!(incarnation.unwrap(), stage.store.incarnation());
        }
    }
}

#[tokio::test]
async fn a_url_of_something_else_is_refused_without_its_password() {
    for url in [
        "mysql://u:hunter2@db/x",
        "hunter2",
        "",
        "sqlite::memory:",
        "/var/lib/hunter2.db",
    ] {
        let error = Store::open(&SecretString::from(url), &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Url { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_is_down_is_waited_for_until_somebody_says_stop() {
    // A port that was free a moment ago: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = SecretString::from(format!("postgres://u:p@127.0.0.1:{port}/x"));
    let stop = CancellationToken::new();
    let waiting = tokio::spawn({
        let stop = stop.clone();
        async move { Store::open(&url, &stop).await }
    });
    tokio::time::timeout(Duration::from_millis(500), async {
        while !waiting.is_finished() {
            tokio::task::yield_now().await
        }
    })
    .await
    .expect_err("it waits");
    stop.cancel();
    assert!(matches!(waiting.await.unwrap(), Err(StoreError::Stopped)));
}

/// Only Postgres has connections that somebody else can end.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_cut_are_replaced() {
    let play = async |stage: &mut Stage| {
        stage.create("before").await;
        stage.tamper("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
        let mut failures = 0;
        while let Err(error) = stage.commands.create(git_deployment("after")).await {
            assert_eq!(error.code(), "UNAVAILABLE", "{error:?}");
            failures += 1;
            assert!(failures <= 8, "each cut connection fails at most once");
        }
    };
    Stage::postgres().await.run(play).await;
}
