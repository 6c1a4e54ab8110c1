//! The Docker Engine is away: at the start, and while things run.

use crate::process::Standalone;
use testkit::body_of;
use testkit::docker;
use testkit::fixture::hello;
use testkit::git_server::GitServer;
use testkit::proxy::Link;

#[tokio::test]
async fn a_node_without_its_engine_is_not_ready_says_why_and_recovers() {
    let git = GitServer::start().await;
    let repository = git.repository("outage", &hello("one"));
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("docker.sock");
    let engine = Link::unix(socket.clone(), docker::socket());
    let host = format!("unix://{}", socket.display());
    let server = Standalone::start_with(&["--docker-host", &host, "--name", "outage"]).await;

    let node = server.api.until_node("outage", "NOT_READY").await;
    assert!(
        node["detail"]
            .as_str()
            .unwrap_or("")
            .to_lowercase()
            .contains("docker"),
        "{node}"
    );
    let deployment = server.api.create_git("outage", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let waits = server
        .api
        .until(&id, "it says why it waits", |now| {
            now["statusDetail"]
                .as_str()
                .is_some_and(|text| text.contains("outage"))
        })
        .await;
    assert_eq!(waits["status"], "REQUESTED");

    engine.mend().await;
    server.api.until_node("outage", "READY").await;
    let running = server.api.until_status(&id, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL").to_owned();

    engine.cut();
    server.api.until_node("outage", "NOT_READY").await;
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));
    engine.mend().await;
    server.api.until_node("outage", "READY").await;
    server.api.until_status(&id, "RUNNING").await;
    server.clean_up().await;
    assert_eq!(docker::leftovers(&id), Vec::<String>::new());
}
