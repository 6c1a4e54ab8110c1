//! Do rows, containers, port leases and queues agree? Asked at the end of every fault.
//!
//! It reads the database, the engine and the broker by their own tools, never by the code under test,
//! and has an opinion of its own on what is legal. What it holds true:
//!
//! - every revision is at one end or runs; its events have no gap, make legal steps and end where it stands;
//! - a deployment has at most one revision that runs, and that is the active one;
//! - every container of a node is of the active revision, at its epoch, on the deployment's node, and
//!   runs exactly when the revision does; every service that should have one has one;
//! - no network or image is left of what is not there; no directory of an action is left on a node;
//! - every port that is held is of a deployment that is there, on its node, and answers when it runs;
//! - no work is unfinished, no report waits for another, and every queue is empty.

mod engine;
mod rows;

use crate::services::{Broker, Database};
use rows::Rows;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A node, as the oracle looks at it.
#[derive(Clone, Debug)]
pub struct Hand {
    /// Its name.
    pub name: String,
    /// Where it keeps its journal.
    pub state_dir: PathBuf,
    /// The engine's address; the usual one when absent.
    pub engine: Option<String>,
    /// Where its ports are reached; none when they are not from here.
    pub advertise: Option<String>,
}

/// Everything that has to agree.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The truth.
    pub database: &'a Database,
    /// The transport.
    pub broker: &'a Broker,
    /// The hands.
    pub nodes: &'a [Hand],
    /// How many dead letters there should be.
    pub dead_letters: u64,
}

impl World<'_> {
    /// Waits until everything agrees; panics with what does not when `patience` is over.
    pub async fn settle(&self, patience: Duration) {
        let begun = Instant::now();
        loop {
            let wrong = self.disagreements().await;
            if wrong.is_empty() {
                return;
            }
            assert!(
                begun.elapsed() < patience,
                "after {patience:?}, these do not agree:\n  {}",
                wrong.join("\n  ")
            );
            // Three programs are asked from outside: there is no event to wait for.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    /// What does not agree now, in words.
    pub async fn disagreements(&self) -> Vec<String> {
        let rows = match Rows::read(self.database) {
            Ok(rows) => rows,
            Err(reason) => return vec![format!("the database cannot be read: {reason}")],
        };
        let mut wrong = rows.disagreements();
        for node in self.nodes {
            wrong.extend(engine::disagreements(node, &rows));
            wrong.extend(leftovers(node));
        }
        if wrong.is_empty() {
            wrong.extend(self.ports(&rows).await);
        }
        if wrong.is_empty() {
            wrong.extend(self.queues().await);
        }
        wrong
    }

    async fn queues(&self) -> Vec<String> {
        let queues = self.broker.queues().await;
        let is_ours =
            |name: &str| name.starts_with("work.") || name == "deployment" || name == "dead";
        let wrong = queues.into_iter().filter_map(|queue| {
            let wanted = if queue.name == "dead" {
                self.dead_letters
            } else {
                0
            };
            (is_ours(&queue.name) && queue.messages != Some(wanted)).then(|| {
                format!(
                    "the queue {} has {:?} messages, not {wanted}",
                    queue.name, queue.messages
                )
            })
        });
        wrong.collect()
    }

    /// Every leased port of what runs takes a connection.
    async fn ports(&self, rows: &Rows) -> Vec<String> {
        let reached: BTreeMap<&str, &str> = self
            .nodes
            .iter()
            .filter_map(|node| Some((node.name.as_str(), node.advertise.as_deref()?)))
            .collect();
        let mut wrong = Vec::new();
        for (node, port) in rows.open_ports() {
            let Some(host) = reached.get(node) else {
                continue;
            };
            let connected = tokio::net::TcpStream::connect((*host, port));
            if !matches!(
                tokio::time::timeout(Duration::from_secs(2), connected).await,
                Ok(Ok(_))
            ) {
                wrong.push(format!("port {port} of node {node} takes no connection"));
            }
        }
        wrong
    }
}

/// Directories of actions that are over.
fn leftovers(node: &Hand) -> Vec<String> {
    let work = node.state_dir.join("work");
    let entries = std::fs::read_dir(&work).into_iter().flatten().flatten();
    entries
        .map(|entry| format!("{} is left", entry.path().display()))
        .collect()
}
