//! The database or the broker is killed while deployments are on their way, and comes back.

use crate::fleet::Fleet;
use crate::table::Fault;
use testkit::fixture::hello;
use testkit::postgres::Postgres;
use testkit::rabbitmq::RabbitMq;
use testkit::services::{Broker, Database};

/// How many deployments are under way when it happens.
pub(crate) const UNDER_WAY: usize = 4;

/// Requests some deployments and does not wait for any.
pub(crate) async fn requested(fleet: &Fleet, count: usize) -> Vec<String> {
    let repository = fleet.git.repository("app", &hello("one"));
    let mut ids = Vec::new();
    for number in 0..count {
        let deployment = fleet
            .api
            .create_git(&format!("app-{number}"), &repository.url)
            .await;
        ids.push(deployment["id"].as_str().expect("an id").to_owned());
    }
    ids
}

/// Every one of them runs, as its first revision.
pub(crate) async fn all_run(fleet: &Fleet, ids: &[String]) {
    for id in ids {
        fleet.api.until_latest(id, 1, "RUNNING").await;
    }
    fleet.settle().await;
}

#[tokio::test]
async fn postgres_is_killed_and_comes_back() {
    let mut line = Fault::new("PostgreSQL killed and started again");
    let mut postgres = Postgres::start().await;
    let mut fleet = Fleet::on(Database::at(&postgres.url()), Broker::create().await).await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("node", "").await;
    let ids = requested(&fleet, UNDER_WAY).await;
    postgres.kill();
    postgres.launch().await;
    line.is_over();
    fleet.api.until_ready().await;
    all_run(&fleet, &ids).await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn the_broker_is_killed_and_comes_back() {
    let mut line = Fault::new("RabbitMQ killed and started again");
    let mut rabbitmq = RabbitMq::start().await;
    let broker = Broker::at(&rabbitmq.url(), &rabbitmq.management_url());
    let mut fleet = Fleet::on(Database::create(), broker).await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("node", "").await;
    let queue = format!("work.{}", fleet.node_name("node"));
    rabbitmq
        .until_registered(&["deployment", "dead", &queue])
        .await;
    let ids = requested(&fleet, UNDER_WAY).await;
    rabbitmq.kill();
    rabbitmq.launch().await;
    line.is_over();
    fleet.api.until_ready().await;
    all_run(&fleet, &ids).await;
    line.converged();
    fleet.clear().await;
}
