//! The fleet: an orchestrator on Postgres and RabbitMQ, and nodes with queues of their own.

use crate::process::start;
use serde_json::json;
use std::path::Path;
use testkit::api::Api;
use testkit::docker;
use testkit::fixture::hello;
use testkit::git_server::GitServer;
use testkit::process::{Role, kill_children_of};
use testkit::services::{Broker, Database};
use testkit::{body_of, eventually, free_port};

pub(crate) fn start_orchestrator(
    directory: &Path,
    listen: &str,
    database: &str,
    broker: &str,
) -> Role {
    let log = directory.join("orchestrator.log");
    let arguments = [
        "orchestrator",
        "--database-url",
        database,
        "--amqp-url",
        broker,
        "--listen",
        listen,
        "--allow-hosts",
        "127.0.0.1",
    ];
    start(&log, &arguments)
}

pub(crate) fn start_node(directory: &Path, name: &str, broker: &str) -> Role {
    let state = directory.join(name);
    let state = state.to_str().expect("UTF-8");
    let arguments = [
        "node",
        "--name",
        name,
        "--amqp-url",
        broker,
        "--state-dir",
        state,
        "--allow-hosts",
        "127.0.0.1",
    ];
    start(&directory.join(format!("{name}.log")), &arguments)
}

#[tokio::test]
async fn work_goes_to_every_node_through_its_own_queue_and_a_new_node_gets_some() {
    let git = GitServer::start().await;
    let repository = git.repository("fleet", &hello("one"));
    let directory = tempfile::tempdir().expect("a directory");
    let database = Database::create();
    let broker = Broker::create().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let orchestrator = start_orchestrator(directory.path(), &listen, &database.url, &broker.url);
    let api = Api::new(&format!("http://{listen}"));
    api.until_ready().await;

    // Without a node a deployment waits, says why, and goes on by itself.
    let waiting = api.create_git("app-0", &repository.url).await;
    let waiting = waiting["id"].as_str().expect("an id").to_owned();
    let reason = api
        .until(&waiting, "it says why it waits", |now| {
            now["statusDetail"]
                .as_str()
                .is_some_and(|text| text.contains("node"))
        })
        .await;
    assert_eq!(reason["status"], "REQUESTED");
    let nodes = [
        start_node(directory.path(), "alpha", &broker.url),
        start_node(directory.path(), "beta", &broker.url),
    ];
    for name in ["alpha", "beta"] {
        api.until_node(name, "READY").await;
    }
    api.until_status(&waiting, "RUNNING").await;

    let mut ids = vec![waiting];
    for number in 1..4 {
        let deployment = api
            .create_git(&format!("app-{number}"), &repository.url)
            .await;
        ids.push(deployment["id"].as_str().expect("an id").to_owned());
    }
    let mut used = std::collections::BTreeSet::new();
    for id in &ids {
        let running = api.until_status(id, "RUNNING").await;
        assert_eq!(
            body_of(running["url"].as_str().expect("a URL"))
                .await
                .as_deref(),
            Some("one")
        );
        used.insert(running["node"]["name"].as_str().expect("a node").to_owned());
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["alpha", "beta"]);

    let late = start_node(directory.path(), "gamma", &broker.url);
    api.until_node("gamma", "READY").await;
    let pinned = api.create(json!({ "name": "pinned", "node": "gamma", "git": { "url": repository.url, "pollSeconds": 0 } })).await;
    let pinned = pinned["id"].as_str().expect("an id").to_owned();
    let running = api.until_status(&pinned, "RUNNING").await;
    assert_eq!(running["node"]["name"], "gamma");
    let unpinned = api.create_git("freest", &repository.url).await;
    let unpinned = unpinned["id"].as_str().expect("an id").to_owned();
    api.until_status(&unpinned, "RUNNING").await;
    ids.extend([pinned, unpinned]);

    let queues = broker.queues().await;
    for name in ["work.alpha", "work.beta", "work.gamma", "deployment"] {
        let found = queues
            .iter()
            .find(|queue| queue.name == name)
            .unwrap_or_else(|| panic!("{name} in {queues:?}"));
        assert_eq!(found.kind, "quorum", "{name}");
    }

    // A node that goes silent is shown as lost; its containers run on.
    late.kill().await;
    api.until_node("gamma", "LOST").await;
    assert_eq!(docker::running(&ids[4]).len(), 1);
    let late = start_node(directory.path(), "gamma", &broker.url);
    api.until_node("gamma", "READY").await;

    api.destroy_all().await;
    for id in &ids {
        assert_eq!(docker::leftovers(id), Vec::<String>::new());
    }
    for role in nodes.into_iter().chain([late, orchestrator]) {
        assert!(role.terminate().await.success());
    }
    kill_children_of(directory.path());
}

#[tokio::test]
async fn database_and_broker_may_come_late_and_go_for_a_while() {
    let git = GitServer::start().await;
    let repository = git.repository("late", &hello("one"));
    let directory = tempfile::tempdir().expect("a directory");
    let database = Database::create();
    let broker = Broker::create().await;
    let (database_link, database_at) = testkit::proxy::Link::tcp(&database.address()).await;
    let (broker_link, broker_at) = testkit::proxy::Link::tcp(&broker.address()).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let amqp = broker.url_by(broker_at);
    let mut orchestrator = start_orchestrator(
        directory.path(),
        &listen,
        &database.url_by(database_at),
        &amqp,
    );
    let node = start_node(directory.path(), "delta", &amqp);
    let api = Api::new(&format!("http://{listen}"));

    // Down at start: they wait and say so.
    eventually(
        "the orchestrator says that the database is away",
        || async {
            orchestrator
                .log()
                .to_lowercase()
                .contains("database")
                .then_some(())
        },
    )
    .await;
    eventually("the node says that the broker is away", || async {
        node.log().to_lowercase().contains("broker").then_some(())
    })
    .await;
    assert!(orchestrator.ended().is_none(), "it waits");
    database_link.mend().await;
    broker_link.mend().await;
    api.until_ready().await;
    api.until_node("delta", "READY").await;
    let deployment = api.create_git("late", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let running = api.until_status(&id, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL").to_owned();

    // The broker goes away: the wish is still accepted, the application still answers, and the
    // work is done when it is back.
    broker_link.cut();
    eventually("readyz says so", || async {
        testkit::body_of(&format!("{}/readyz", api.url))
            .await
            .is_none()
            .then_some(())
    })
    .await;
    repository.commit("second", &[("index.html", "two")]);
    assert!(api.act("redeployDeployment", &id).await.errors.is_empty());
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));
    broker_link.mend().await;
    api.until_latest(&id, 2, "RUNNING").await;
    assert_eq!(body_of(&url).await.as_deref(), Some("two"));

    // The database goes away: a clear answer, and recovery without a restart.
    database_link.cut();
    let answer = eventually("the API says UNAVAILABLE", || async {
        let answer = api.try_ask("{ nodes { id } }", json!({})).await.ok()?;
        (!answer.errors.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(answer.code(), "UNAVAILABLE");
    assert_eq!(body_of(&url).await.as_deref(), Some("two"));
    database_link.mend().await;
    api.until_ready().await;
    api.until_node("delta", "READY").await;
    assert!(api.act("restartDeployment", &id).await.errors.is_empty());
    api.until_status(&id, "RUNNING").await;

    api.destroy_all().await;
    for role in [node, orchestrator] {
        assert!(role.terminate().await.success());
    }
    kill_children_of(directory.path());
}
