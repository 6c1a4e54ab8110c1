//! The Docker Engine of a node's machine is stopped, killed, and started again.

use super::cut::elsewhere;
use crate::fleet::Fleet;
use crate::table::Fault;
use testkit::engine::Machine;
use testkit::fixture::{hello, with_dockerfile};
use testkit::{body_of, eventually};

async fn engine_ends_and_returns(what: &str, end: impl Fn(&mut Machine)) {
    let mut line = Fault::new(what);
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    let mut there = elsewhere(&mut fleet, "far").await;
    let name = fleet.node_name("far");
    fleet.git.repository("app", &hello("one"));
    let deployment = fleet
        .api
        .create_git("app", &format!("http://{}/app.git", there.git))
        .await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    let page = running["url"].as_str().expect("a URL").to_owned();
    // And one that is being built when it happens.
    let slow = testkit::fixture::DOCKERFILE.replace("EXPOSE", "RUN sleep 8\nEXPOSE");
    fleet.git.repository("slow", &with_dockerfile(&slow));
    let deployment = fleet
        .api
        .create_git("slow", &format!("http://{}/slow.git", there.git))
        .await;
    let building = deployment["id"].as_str().expect("an id").to_owned();
    fleet.api.until_latest(&building, 1, "BUILDING").await;

    end(&mut there.machine);
    fleet.api.until_node(&name, "NOT_READY").await;
    there.machine.launch().await;
    line.is_over();
    fleet.until_ready("far").await;
    fleet.api.until_status(&id, "RUNNING").await;
    fleet.api.until_latest(&building, 1, "RUNNING").await;
    eventually("the page answers", || async {
        (body_of(&page).await.as_deref() == Some("one")).then_some(())
    })
    .await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn the_engine_is_stopped_and_started() {
    engine_ends_and_returns("Docker Engine stopped and started", Machine::stop).await;
}

#[tokio::test]
async fn the_engine_is_killed_and_started() {
    engine_ends_and_returns("Docker Engine killed and started", Machine::kill).await;
}
