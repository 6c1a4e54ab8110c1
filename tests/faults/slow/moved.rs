//! A node is lost while another one is there: its work moves, and it is fenced when it returns.

use super::cut::elsewhere;
use crate::fleet::Fleet;
use crate::table::Fault;
use serde_json::Value;
use std::time::Duration;
use testkit::fixture::hello;
use testkit::{body_of, eventually};

/// Where the deployment's newest revision runs.
fn is_running_on(deployment: &Value, node: &str) -> bool {
    deployment["status"] == "RUNNING" && deployment["activeRevision"]["node"]["name"] == node
}

#[tokio::test]
async fn work_of_a_node_that_is_cut_off_moves_and_is_removed_there() {
    let mut line = Fault::new("node cut off for 90 s, its work moves");
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    let there = elsewhere(&mut fleet, "far").await;
    fleet.git.repository("app", &hello("one"));
    // Reached from both machines.
    let url = format!("http://{}/app.git", there.git);
    let deployment = fleet.api.create_git("app", &url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let far = fleet.node_name("far");
    let near = fleet.node_name("near");
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    assert!(is_running_on(&running, &far), "{running}");
    fleet.node("near", "").await;

    there.machine.network.cut();
    let healed = tokio::time::Instant::now() + Duration::from_secs(90);
    fleet.api.until_node(&far, "LOST").await;
    let moved = fleet
        .api
        .until(&id, "it runs elsewhere", |now| is_running_on(now, &near))
        .await;
    let page = moved["url"].as_str().expect("a URL");
    assert_eq!(body_of(page).await.as_deref(), Some("one"));
    // The length of the cut is the fault itself.
    tokio::time::sleep_until(healed).await;
    there.machine.network.heal();
    line.is_over();
    fleet.until_ready("far").await;
    eventually("what it still ran is gone", || async {
        let host = there.machine.host();
        testkit::docker::containers_of(Some(&host), &far)
            .is_empty()
            .then_some(())
    })
    .await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn work_of_a_node_that_never_returns_moves() {
    let mut line = Fault::new("node killed and not started again");
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("first", "").await;
    let repository = fleet.git.repository("app", &hello("one"));
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    fleet.api.until_latest(&id, 1, "RUNNING").await;
    fleet.node("second", "").await;
    fleet.kill("first").await;
    line.is_over();
    let second = fleet.node_name("second");
    fleet
        .api
        .until(&id, "it runs elsewhere", |now| is_running_on(now, &second))
        .await;
    line.converged();
    // Its containers go when it returns, and everything agrees again.
    fleet.start("first", "");
    fleet.until_ready("first").await;
    fleet.settle().await;
    fleet.clear().await;
}
