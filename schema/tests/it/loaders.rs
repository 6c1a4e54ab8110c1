//! A page costs as many reads as it has kinds of things, however many rows it has.

use crate::server::{Server, TOKEN};
use schema::Metrics;
use std::collections::BTreeMap;

const PAGE: &str =
    "{deployments(first:50){nodes{id labels{key} ports{port node{name}} services{name} node{name}
    latestRevision{number node{name} events{seq}} activeRevision{number} revisions(first:3){nodes{number}}}}}";

/// How often each kind of thing was read, by the server's own figures.
async fn batches(server: &Server) -> BTreeMap<String, u64> {
    let figures = server
        .client
        .get(server.url("/metrics"))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines = figures
        .lines()
        .filter_map(|line| line.strip_prefix("longshore_api_batches_total{of=\""));
    lines
        .map(|line| line.split_once("\"} ").unwrap())
        .map(|(of, count)| (of.to_owned(), count.parse().unwrap()))
        .collect()
}

// Runs in a process of its own (nextest): the figures are the process's.
#[tokio::test]
async fn a_page_of_fifty_is_read_at_once() {
    let server = Server::start_with(Metrics::install().unwrap()).await;
    for number in 0..50 {
        server.create(&format!("app-{number}")).await;
    }
    let before = batches(&server).await;
    let answer = server.ask(PAGE).await;
    let nodes = answer["data"]["deployments"]["nodes"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(nodes.len(), 50);
    assert!(
        nodes
            .iter()
            .all(|node| node["latestRevision"]["events"][0]["seq"] == 1),
        "{answer}"
    );
    let after = batches(&server).await;
    for of in [
        "labels",
        "ports",
        "services",
        "revisions",
        "revision pages",
        "events",
    ] {
        let reads = after.get(of).copied().unwrap_or(0) - before.get(of).copied().unwrap_or(0);
        // Rows that are resolved a moment later may form a batch of their own; never one for each.
        assert!((1..=3).contains(&reads), "{of}: {reads} reads for 50 rows");
    }
}
