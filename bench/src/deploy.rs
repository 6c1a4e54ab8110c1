//! G1–G3: one changed file, from mutation to first answer, over the same steps by hand.

use crate::arrivals::Arrivals;
use crate::floor::{Floor, until_answer};
use crate::server::Server;
use crate::table::Samples;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;
use testkit::git_server::{GitServer, Repository};

/// How many files the application has, as in the published measurements of the floor.
const FILES: usize = 60;

pub(crate) async fn run(binary: &Path, rounds: usize) -> Result<()> {
    let git = GitServer::start().await;
    let repository = application(&git);
    let server = Server::start(binary).await?;
    let mut floor = Floor::new().await?;

    // Warm: base image, mirror, build cache, forwarder.
    floor.deploy(&repository.url, "version-0 ").await?;
    let deployment = server.api.create_git("bench", &repository.url).await;
    let id = deployment["id"].as_str().context("an id")?.to_owned();
    let url = server.api.until_status(&id, "RUNNING").await["url"]
        .as_str()
        .context("a URL")?
        .to_owned();

    floor.forget();

    let (mut by_hand, mut changed, mut visible, mut unchanged) = (
        Samples::default(),
        Samples::default(),
        Samples::default(),
        Samples::default(),
    );
    let mut arrivals = Arrivals::of(&server.api, &id).await;
    let mut revision = 1;
    let mut with_a_change = BTreeSet::new();
    for round in 1..=rounds {
        repository.commit("change", &[("index.html", &page(round))]);
        let expected = format!("version-{round} ");
        for contender in 0..2 {
            if (round + contender) % 2 == 0 {
                by_hand.push(floor.deploy(&repository.url, &expected).await?);
            } else {
                revision += 1;
                with_a_change.insert(revision);
                let started = Instant::now();
                arrivals.asks_for(revision);
                redeploy(&server, &id).await?;
                // Asked before, the old revision would answer, with time that the new one needs. By
                // hand nobody asks before the start either.
                arrivals.until(revision, "VERIFYING").await?;
                until_answer(&url, &expected).await?;
                changed.push(started.elapsed());
                arrivals.until(revision, "RUNNING").await?;
                visible.push(started.elapsed());
                floor.until_retired(&id).await?;
            }
        }
        revision += 1;
        let started = Instant::now();
        arrivals.asks_for(revision);
        redeploy(&server, &id).await?;
        arrivals.until(revision, "RUNNING").await?;
        unchanged.push(started.elapsed());
        floor.until_retired(&id).await?;
    }
    println!("one deployment, {FILES} files, {rounds} rounds, median [quartiles], over the floor");
    println!(
        "{}",
        by_hand.row("by hand: fetch, build, create, start, answer", None)
    );
    println!(
        "{}",
        changed.row("longshore: mutation to first answer", Some(&by_hand))
    );
    println!(
        "{}",
        visible.row("longshore: mutation to RUNNING visible", Some(&by_hand))
    );
    println!(
        "{}",
        unchanged.row("longshore: tree already built, to RUNNING", Some(&by_hand))
    );
    println!("\nthe control plane's share");
    let Arrivals {
        to_worker,
        to_subscriber,
        ..
    } = &arrivals;
    println!(
        "{}",
        to_worker.row("mutation sent to the worker's first word", None)
    );
    println!("{}", to_subscriber.row("a report to its subscriber", None));
    println!("\nby hand, step by step");
    for (name, samples) in &floor.steps {
        println!("{}", samples.row(name, None));
    }
    println!("\nlongshore with a changed file, by the timestamps of each revision's events");
    let steps = Steps::of(&server, &id, &with_a_change).await?;
    for (from, to) in STEPS {
        println!(
            "{}",
            steps
                .between(from, to)
                .row(&format!("{from} to {to}"), None)
        );
    }
    server.clean_up().await?;
    floor.clean_up().await
}

fn application(git: &GitServer) -> Repository {
    let mut files = testkit::fixture::hello("version-0 ");
    let names: Vec<String> = (files.len()..FILES)
        .map(|index| format!("file-{index}.txt"))
        .collect();
    files.extend(
        names
            .iter()
            .map(|name| (name.as_str(), "the same in every version\n")),
    );
    git.repository("bench", &files)
}

fn page(round: usize) -> String {
    format!("version-{round} ")
}

async fn redeploy(server: &Server, id: &str) -> Result<()> {
    let answer = server.api.act("redeployDeployment", id).await;
    anyhow::ensure!(answer.errors.is_empty(), "{answer:?}");
    Ok(())
}

/// The steps whose distance is shown. The first is the control plane's share: from the mutation's
/// row to the node's first report.
const STEPS: [(&str, &str); 5] = [
    ("REQUESTED", "FETCHING"),
    ("FETCHING", "BUILDING"),
    ("BUILDING", "STARTING"),
    ("STARTING", "VERIFYING"),
    ("VERIFYING", "RUNNING"),
];

/// When revisions took their steps. One machine, one clock.
struct Steps(Vec<BTreeMap<String, DateTime<Utc>>>);

impl Steps {
    async fn of(server: &Server, id: &str, numbers: &BTreeSet<i64>) -> Result<Self> {
        let query = "query($id: ID!) { deployment(id: $id) { revisions(first: 50) { nodes { number events { status at } } } } }";
        let data = server.api.data(query, json!({ "id": id })).await;
        let revisions: Vec<Revision> =
            serde_json::from_value(data["deployment"]["revisions"]["nodes"].clone())?;
        let steps = revisions
            .into_iter()
            .filter(|revision| numbers.contains(&revision.number))
            .map(|revision| {
                let steps = revision.events.into_iter();
                steps.map(|step| (step.status, step.at)).collect()
            });
        Ok(Self(steps.collect()))
    }

    fn between(&self, from: &str, to: &str) -> Samples {
        let mut samples = Samples::default();
        samples.extend(self.0.iter().filter_map(|steps| {
            let apart = *steps.get(to)? - *steps.get(from)?;
            Some(apart.as_seconds_f64() * 1000.0)
        }));
        samples
    }
}

#[derive(Deserialize)]
struct Revision {
    number: i64,
    events: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    status: String,
    at: DateTime<Utc>,
}
