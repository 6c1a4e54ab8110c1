//! The database is away for half a minute; the broker comes back without its data.

use crate::fleet::Fleet;
use crate::services::{UNDER_WAY, all_run, requested};
use crate::table::Fault;
use serde_json::json;
use std::time::Duration;
use testkit::fixture::hello;
use testkit::postgres::Postgres;
use testkit::rabbitmq::RabbitMq;
use testkit::services::{Broker, Database};
use testkit::{body_of, eventually};

#[tokio::test]
async fn postgres_is_away_for_thirty_seconds() {
    let mut line = Fault::new("PostgreSQL stopped and 30 s away");
    let mut postgres = Postgres::start().await;
    let mut fleet = Fleet::on(Database::at(&postgres.url()), Broker::create().await).await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("node", "").await;
    let first = fleet.git.repository("first", &hello("one"));
    let deployment = fleet.api.create_git("first", &first.url).await;
    let first = deployment["id"].as_str().expect("an id").to_owned();
    let running = fleet.api.until_latest(&first, 1, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL").to_owned();

    let ids = requested(&fleet, UNDER_WAY).await;
    postgres.stop();
    let back = tokio::time::Instant::now() + Duration::from_secs(30);
    eventually("the API says UNAVAILABLE", || async {
        let answer = fleet
            .api
            .try_ask("{ nodes { id } }", json!({}))
            .await
            .ok()?;
        (answer.code() == "UNAVAILABLE").then_some(())
    })
    .await;
    assert_eq!(body_of(&url).await.as_deref(), Some("one"), "it serves on");
    // The length of the outage is the fault itself.
    tokio::time::sleep_until(back).await;
    postgres.launch().await;
    line.is_over();
    fleet.api.until_ready().await;
    fleet.until_ready("node").await;
    all_run(&fleet, &ids).await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn the_broker_comes_back_without_its_data() {
    let mut line = Fault::new("RabbitMQ killed and wiped");
    let mut rabbitmq = RabbitMq::start().await;
    let broker = Broker::at(&rabbitmq.url(), &rabbitmq.management_url());
    let mut fleet = Fleet::on(Database::create(), broker).await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("node", "").await;
    let ids = requested(&fleet, UNDER_WAY).await;
    rabbitmq.kill();
    rabbitmq.wipe();
    rabbitmq.launch().await;
    line.is_over();
    fleet.api.until_ready().await;
    all_run(&fleet, &ids).await;
    line.converged();
    fleet.clear().await;
}
