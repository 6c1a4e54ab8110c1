//! Taking machines and processes out of service without anybody noticing.

use crate::fleet::{start_node, start_orchestrator};
use crate::process::longshore;
use serde_json::json;
use testkit::api::Api;
use testkit::fixture::hello;
use testkit::git_server::GitServer;
use testkit::process::kill_children_of;
use testkit::services::{Broker, Database};
use testkit::{body_of, docker, free_port};

#[tokio::test]
async fn a_drained_node_is_empty_and_a_stopping_orchestrator_says_so() {
    let git = GitServer::start().await;
    let repository = git.repository("leaving", &hello("one"));
    let directory = tempfile::tempdir().expect("a directory");
    let database = Database::create();
    let broker = Broker::create().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let orchestrator = start_orchestrator(directory.path(), &listen, &database.url, &broker.url);
    let api = Api::new(&format!("http://{listen}"));
    api.until_ready().await;
    let nodes = ["alpha", "beta"].map(|name| start_node(directory.path(), name, &broker.url));
    for name in ["alpha", "beta"] {
        api.until_node(name, "READY").await;
    }
    let free = api.create_git("free", &repository.url).await;
    let free = free["id"].as_str().expect("an id").to_owned();
    let running = api.until_status(&free, "RUNNING").await;
    let from = running["node"]["name"].as_str().expect("a node").to_owned();
    let to = if from == "alpha" { "beta" } else { "alpha" };
    let pinned = json!({ "name": "pinned", "node": from, "git": { "url": repository.url, "pollSeconds": 0 } });
    let pinned = api.create(pinned).await["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    api.until_status(&pinned, "RUNNING").await;

    let drained = longshore(
        &api.url,
        &["node", "drain", &from, "--wait", "--output", "json"],
    )
    .await;
    assert_eq!(
        drained.code, 0,
        "what is pinned stays, and is no failure: {drained:?}"
    );
    assert_eq!(drained.json()["drain"]["left"], 1, "{drained:?}");
    let moved = api.until_status(&free, "RUNNING").await;
    assert_eq!(moved["node"]["name"], to);
    let url = moved["url"].as_str().expect("a URL");
    assert_eq!(body_of(url).await.as_deref(), Some("one"));
    assert_eq!(
        (docker::running(&free).len(), docker::running(&pinned).len()),
        (1, 1)
    );
    assert_eq!(
        longshore(&api.url, &["node", "uncordon", &from]).await.code,
        0
    );

    let closed = api
        .subscribe_until_closed("subscription { deploymentStatus { seq } }", json!({}))
        .await;
    let (status, (code, reason)) = tokio::join!(orchestrator.terminate(), closed);
    assert!(status.success(), "{status}");
    assert_eq!(code, 1001);
    assert!(reason.contains("connect again"), "{reason}");
    assert_eq!(body_of(url).await.as_deref(), Some("one"));

    let orchestrator = start_orchestrator(directory.path(), &listen, &database.url, &broker.url);
    api.until_ready().await;
    api.destroy_all().await;
    for role in nodes.into_iter().chain([orchestrator]) {
        assert!(role.terminate().await.success());
    }
    kill_children_of(directory.path());
}
