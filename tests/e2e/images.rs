//! An image of a registry as the source: pulled, and each revision one version of it for good.

use crate::process::{Standalone, longshore};
use serde_json::{Value, json};
use testkit::body_of;
use testkit::docker;
use testkit::fixture::hello;
use testkit::git_server::GitServer;
use testkit::registry::Registry;

async fn page(deployment: &Value) -> Option<String> {
    body_of(deployment["url"].as_str().expect("a URL")).await
}

#[tokio::test]
async fn a_tag_that_moves_changes_no_revision_that_was() {
    let registry = Registry::start().await;
    let image = registry.push("app:v1", "one");
    let server = Standalone::start().await;
    let arguments = [
        "deploy", "pulled", "--image", &image, "--port", "8000", "--wait", "--output", "json",
    ];
    let deployed = longshore(&server.api.url, &arguments).await;
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let id = deployed.json()["deployment"]["id"].clone();
    let id = id.as_str().expect("an id");
    let first = server.api.until_latest(id, 1, "RUNNING").await;
    assert_eq!(page(&first).await.as_deref(), Some("one"));

    registry.push("app:v1", "two");
    let answer = server.api.act("redeployDeployment", id).await;
    assert!(answer.errors.is_empty(), "{answer:?}");
    let second = server.api.until_latest(id, 2, "RUNNING").await;
    assert_eq!(page(&second).await.as_deref(), Some("two"));

    // What is gone back to is the version, which the engine need not have any more.
    let versions = versions(&server, id).await;
    assert!(versions[0].starts_with("sha256:") && versions[0] != versions[1]);
    let name = image.split_once(":v1").expect("a tag").0;
    docker::forget_image(&format!("{name}@{}", versions[0]));
    let answer = server.api.act("rollbackDeployment", id).await;
    assert!(answer.errors.is_empty(), "{answer:?}");
    let third = server.api.until_latest(id, 3, "RUNNING").await;
    assert_eq!(page(&third).await.as_deref(), Some("one"));
    assert_eq!(self::versions(&server, id).await[2], versions[0]);

    let history = longshore(
        &server.api.url,
        &["deployment", "history", "pulled", "--output", "json"],
    );
    let history = history.await.json();
    let numbers: Vec<_> = history.as_array().expect("revisions").iter().collect();
    assert_eq!(numbers.len(), 3, "{history}");
    assert_eq!(numbers[0]["sourceVersion"], versions[0], "{history}");
    let destroyed = longshore(
        &server.api.url,
        &[
            "deployment",
            "destroy",
            "pulled",
            "--yes",
            "--wait",
            "--output",
            "json",
        ],
    );
    let destroyed = destroyed.await;
    assert_eq!(destroyed.code, 0, "{destroyed:?}");
    assert_eq!(destroyed.json()["status"], "DESTROYED");

    server.clean_up().await;
    for version in &versions {
        docker::forget_image(&format!("{name}@{version}"));
    }
}

#[tokio::test]
async fn an_image_is_not_looked_for_where_it_should_not_be() {
    let server = Standalone::start().await;
    let git = GitServer::start().await;
    let repository = git.repository("hello", &hello("one"));
    let built = server.api.create_git("built", &repository.url).await;
    let id = built["id"].as_str().expect("an id");
    server.api.until_latest(id, 1, "RUNNING").await;
    let container = docker::inspect(&docker::running(id)[0]);
    let of_another = container["Config"]["Image"].as_str().expect("an image");
    for (name, image, said) in [
        ("metadata", "169.254.169.254:1/x", "a link-local address"),
        ("foreign", of_another, "pulling an image"),
    ] {
        let input = json!({ "name": name, "image": { "ref": image, "port": 8000 } });
        let deployment = server.api.create(input).await;
        let id = deployment["id"].as_str().expect("an id");
        let failed = server.api.until_latest(id, 1, "FAILED").await;
        assert_eq!(failed["failureReason"], "FETCH_FAILED");
        let detail = failed["statusDetail"].as_str().unwrap_or_default();
        assert!(detail.contains(said), "{detail}");
    }
    server.clean_up().await;
}

/// The version of each revision, oldest first.
async fn versions(server: &Standalone, id: &str) -> Vec<String> {
    let query = "query($id: ID!) { deployment(id: $id) { revisions(first: 9) { nodes { number sourceVersion } } } }";
    let mut data = server.api.data(query, json!({ "id": id })).await;
    let mut revisions: Vec<(i64, String)> = data["deployment"]["revisions"]["nodes"]
        .as_array_mut()
        .expect("revisions")
        .iter()
        .map(|revision| {
            let version = revision["sourceVersion"].as_str().expect("a version");
            (
                revision["number"].as_i64().expect("a number"),
                version.to_owned(),
            )
        })
        .collect();
    revisions.sort();
    revisions.into_iter().map(|(_, version)| version).collect()
}
