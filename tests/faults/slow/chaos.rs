//! Every process of a fleet is killed in turn, every few seconds, while deployments are requested.
//! `make chaos N=500` runs it with as many as wanted.

use super::many::{containers, insist, until_running};
use crate::fleet::Fleet;
use crate::table::Fault;
use std::time::{Duration, Instant};
use testkit::fixture::hello;
use testkit::services::Database;
use tokio_util::sync::CancellationToken;

/// How many deployments are requested, unless this variable says something else.
const DEPLOYMENTS: usize = 40;
const VARIABLE: &str = "LONGSHORE_CHAOS_DEPLOYMENTS";

/// The time between two kills.
const PAUSE: Duration = Duration::from_secs(3);

const ORCHESTRATORS: [&str; 2] = ["first", "second"];
const NODES: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn every_process_is_killed_in_turn() {
    let wanted = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().expect("a number of deployments"),
        Err(_) => DEPLOYMENTS,
    };
    let mut line = Fault::new(&format!(
        "every process killed in turn, {wanted} deployments"
    ));
    let mut fleet = Fleet::new().await;
    let mut apis = Vec::new();
    for name in ORCHESTRATORS {
        fleet.orchestrator(name, "").await;
        apis.push(fleet.api.clone());
    }
    for name in NODES {
        fleet.node(name, "").await;
    }
    let begun = Instant::now();
    // Looked at while the fleet is in the hands of its killer.
    let database = Database::at(&fleet.database.url);
    let url = fleet.git.repository("app", &hello("one")).url;
    let stop = CancellationToken::new();
    let killer = tokio::spawn(kill_in_turn(fleet, stop.clone()));
    for number in 0..wanted {
        insist(&apis, number, &url).await;
    }
    println!("requested after {:.0} s", begun.elapsed().as_secs_f64());
    until_running(&database, wanted as u64).await;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "all run after {seconds:.0} s: {:.2} a second",
        wanted as f64 / seconds
    );
    stop.cancel();
    let (fleet, kills) = killer.await.expect("the killer returns the fleet");
    println!("{kills} processes were killed");
    line.is_over();
    fleet.settle().await;
    assert_eq!(containers(&fleet), wanted, "one each");
    line.converged();
    fleet.clear().await;
}

/// Kills and starts one process after the other until it is told to stop; how many it were.
async fn kill_in_turn(mut fleet: Fleet, stop: CancellationToken) -> (Fleet, u32) {
    let mut kills = 0;
    for name in ORCHESTRATORS.into_iter().chain(NODES).cycle() {
        let pause = stop.run_until_cancelled(tokio::time::sleep(PAUSE));
        if pause.await.is_none() {
            break;
        }
        fleet.kill(name).await;
        fleet.start(name, "");
        kills += 1;
    }
    (fleet, kills)
}
