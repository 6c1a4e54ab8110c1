//! Two orchestrators, one of which is killed while many deployments are requested of both.

use crate::fleet::Fleet;
use crate::table::Fault;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::api::Api;
use testkit::fixture::hello;
use testkit::services::Database;

/// How many are requested.
const DEPLOYMENTS: usize = 200;

/// Requests the deployment with this number of whoever answers, as often as it takes: each of them
/// is asked first in turn. A name that is taken by an earlier try, whose answer was lost, is as good
/// as an answer.
pub(super) async fn insist(apis: &[Api], number: usize, url: &str) {
    let name = format!("app-{number}");
    let query =
        "mutation($input: CreateDeploymentInput!) { createDeployment(input: $input) { id } }";
    let input = json!({ "input": { "name": name, "git": { "url": url, "pollSeconds": 0 } } });
    let begun = Instant::now();
    for api in apis.iter().cycle().skip(number % apis.len()) {
        match api.try_ask(query, input.clone()).await {
            Ok(answer) if answer.errors.is_empty() || answer.code() == "CONFLICT" => return,
            Ok(answer) => assert_eq!(answer.code(), "UNAVAILABLE", "{answer:?}"),
            // It is being killed, or is not up again yet.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        assert!(begun.elapsed() < testkit::PATIENCE, "nobody takes {name}");
    }
}

/// How many deployments there are, run, and have failed.
fn count(database: &Database) -> Option<(u64, u64, Vec<Value>)> {
    let counted = database.json(
        "select json_build_object('all', (select count(*) from deployments), \
         'running', (select count(*) from revisions where status = 'RUNNING'), \
         'failed', (select coalesce(json_agg(json_build_array(failure_reason, status_detail)), '[]') from revisions \
         where status in ('FAILED', 'CANCELLED', 'DEGRADED')))",
    );
    let counted = counted.ok()?;
    Some((
        counted["all"].as_u64()?,
        counted["running"].as_u64()?,
        counted["failed"].as_array()?.clone(),
    ))
}

/// Waits until this many run, as long as more and more do.
pub(super) async fn until_running(database: &Database, wanted: u64) {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        if let Some((all, running, failed)) = count(database) {
            assert_eq!(failed, Vec::<Value>::new(), "none fails");
            if running > most {
                (most, since) = (running, Instant::now());
            }
            if all == wanted && running == wanted {
                return;
            }
        }
        assert!(
            since.elapsed() < testkit::PATIENCE,
            "{most} of {wanted} run, and no more"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The containers of all nodes of the fleet.
pub(super) fn containers(fleet: &Fleet) -> usize {
    let nodes = fleet.world().nodes;
    nodes
        .iter()
        .map(|node| testkit::docker::containers_of(node.engine.as_deref(), &node.name).len())
        .sum()
}

#[tokio::test]
async fn one_of_two_orchestrators_is_killed_while_many_are_requested() {
    let mut line = Fault::new("one of two orchestrators killed during 200 requests");
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("first", "").await;
    let first = fleet.api.clone();
    fleet.orchestrator("second", "").await;
    let apis = [first, fleet.api.clone()];
    for name in ["a", "b"] {
        fleet.node(name, "").await;
    }
    let repository = fleet.git.repository("app", &hello("one"));
    for number in 0..DEPLOYMENTS {
        if number == DEPLOYMENTS / 2 {
            fleet.kill("first").await;
            line.is_over();
        }
        insist(&apis, number, &repository.url).await;
    }
    until_running(&fleet.database, DEPLOYMENTS as u64).await;
    fleet.settle().await;
    assert_eq!(containers(&fleet), DEPLOYMENTS, "one each");
    line.converged();
    fleet.clear().await;
}
