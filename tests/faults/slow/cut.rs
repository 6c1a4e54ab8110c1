//! A node on another machine, whose cable is pulled for a minute and a half.

use crate::fleet::{Fleet, Place};
use crate::table::Fault;
use serde_json::json;
use std::time::Duration;
use testkit::engine::{Machine, page_inside};
use testkit::fixture::hello;
use testkit::proxy::Link;
use testkit::{body_of, eventually};

/// Another machine with a node on it, and what it reaches of this one.
pub(super) struct Elsewhere {
    pub(super) machine: Machine,
    /// The address of the Git server, as seen from there.
    pub(super) git: String,
    _links: [Link; 2],
}

/// Starts a node on a machine of its own.
pub(super) async fn elsewhere(fleet: &mut Fleet, name: &str) -> Elsewhere {
    let machine = Machine::start().await;
    let near = machine.network.near();
    let (broker, broker_at) = Link::tcp_at(&near, &fleet.broker.address()).await;
    let (git, git_at) = Link::tcp_at(&near, fleet.git.address()).await;
    broker.mend().await;
    git.mend().await;
    let place = Place {
        enter: Some(machine.network.enter()),
        broker: Some(fleet.broker.url_by(broker_at)),
        engine: Some(machine.host()),
        advertise: Some(machine.network.far()),
        ..Place::default()
    };
    fleet.node_at(name, "", place).await;
    fleet.until_ready(name).await;
    Elsewhere {
        machine,
        git: git_at.to_string(),
        _links: [broker, git],
    }
}

#[tokio::test]
async fn a_node_is_cut_off_for_ninety_seconds() {
    let mut line = Fault::new("node cut off for 90 s");
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    let there = elsewhere(&mut fleet, "far").await;
    let name = fleet.node_name("far");
    let repository = fleet.git.repository("app", &hello("one"));
    let url = format!("http://{}/app.git", there.git);
    // Pinned: it has nowhere else to go, and waits.
    let input = json!({ "name": "app", "node": name, "git": { "url": url, "pollSeconds": 0 } });
    let deployment = fleet.api.create(input).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    let page = running["url"].as_str().expect("a URL").to_owned();
    let port = running["ports"][0]["port"].as_u64().expect("a port");
    let port = u16::try_from(port).expect("a port");
    assert_eq!(body_of(&page).await.as_deref(), Some("one"));

    there.machine.network.cut();
    let healed = tokio::time::Instant::now() + Duration::from_secs(90);
    fleet.api.until_node(&name, "LOST").await;
    repository.commit("second", &[("index.html", "two")]);
    let answer = fleet.api.act("redeployDeployment", &id).await;
    assert!(answer.errors.is_empty(), "{answer:?}");
    // The length of the cut is the fault itself.
    tokio::time::sleep_until(healed).await;
    assert_eq!(
        page_inside(&there.machine, port).as_deref(),
        Some("one"),
        "it serves on"
    );
    there.machine.network.heal();
    line.is_over();
    fleet.until_ready("far").await;
    fleet.api.until_latest(&id, 2, "RUNNING").await;
    eventually("the new page is served", || async {
        (body_of(&page).await.as_deref() == Some("two")).then_some(())
    })
    .await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
