//! The clock of a node's machine is wrong.

use crate::fleet::{Fleet, Place};
use crate::table::Fault;
use serde_json::json;
use std::time::Duration;
use testkit::fixture::hello;

/// What tells a process another time, by Debian's package `faketime`.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[tokio::test]
async fn clocks_of_nodes_are_ten_minutes_off() {
    let mut line = Fault::new("clocks of two nodes 10 minutes off");
    assert!(
        std::path::Path::new(LIBRARY).exists(),
        "the package faketime is not installed: scripts/install.sh test"
    );
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    for (name, offset) in [("early", "-600s"), ("late", "+600s")] {
        let environment = [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME", offset),
            // Only what people call the time is wrong; timers go on as they should.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let place = Place {
            environment: environment
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            ..Place::default()
        };
        fleet.node_at(name, "", place).await;
    }
    for name in ["early", "late"] {
        fleet.until_ready(name).await;
    }
    line.is_over();
    let mut changes = fleet
        .api
        .subscribe("subscription { nodeStatus { name status } }", json!({}))
        .await;
    let repository = fleet.git.repository("app", &hello("one"));
    for name in ["early", "late"] {
        let node = fleet.node_name(name);
        let git = json!({ "url": repository.url, "pollSeconds": 0 });
        let deployment = fleet
            .api
            .create(json!({ "name": name, "node": node, "git": git }))
            .await;
        let id = deployment["id"].as_str().expect("an id");
        let running = fleet.api.until_latest(id, 1, "RUNNING").await;
        let revision = running["activeRevision"]["id"].as_str().expect("an id");
        let events = fleet.api.events(revision).await;
        let steps: Vec<&str> = events
            .iter()
            .filter_map(|event| event["status"].as_str())
            .collect();
        let clean = [
            "REQUESTED",
            "INITIALIZED",
            "FETCHING",
            "BUILDING",
            "STARTING",
            "VERIFYING",
            "RUNNING",
        ];
        assert_eq!(steps, clean);
    }
    // Longer than a node may be silent: none is lost for what its clock says.
    let watched = tokio::time::sleep(Duration::from_secs(30));
    tokio::pin!(watched);
    loop {
        tokio::select! {
            () = &mut watched => break,
            change = changes.recv() => {
                let change = change.expect("the subscription goes on");
                assert_ne!(change["data"]["nodeStatus"]["status"], "LOST", "{change}");
            }
        }
    }
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
