//! When what nodes say reaches a subscriber: the control plane's share of a deployment. One machine,
//! one clock.

use crate::table::Samples;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::api::Api;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Statuses that a node reports, each as soon as it is so.
const REPORTED: [&str; 5] = ["FETCHING", "BUILDING", "STARTING", "VERIFYING", "RUNNING"];

/// A subscriber to the steps of one deployment.
pub(crate) struct Arrivals {
    steps: UnboundedReceiver<(DateTime<Utc>, Value)>,
    /// When each revision was asked for.
    asked: BTreeMap<i64, DateTime<Utc>>,
    /// From the mutation's sending to the first word of the node that works on it.
    pub(crate) to_worker: Samples,
    /// From a node's word to a subscriber who has it.
    pub(crate) to_subscriber: Samples,
}

impl Arrivals {
    /// Subscribes; what was before is passed over.
    pub(crate) async fn of(api: &Api, id: &str) -> Self {
        let query = "subscription($id: ID!) { deploymentStatus(id: $id) { revision status at } }";
        let mut steps = api.subscribe(query, json!({ "id": id })).await;
        let (sender, stamped) = unbounded_channel();
        // When it came, not when somebody here had time for it.
        tokio::spawn(async move {
            while let Some(step) = steps.recv().await {
                if sender.send((Utc::now(), step)).is_err() {
                    return;
                }
            }
        });
        Self {
            steps: stamped,
            asked: BTreeMap::new(),
            to_worker: Samples::default(),
            to_subscriber: Samples::default(),
        }
    }

    /// This revision is asked for now.
    pub(crate) fn asks_for(&mut self, revision: i64) {
        self.asked.insert(revision, Utc::now());
    }

    /// Takes the steps of the revision that was asked for last, up to the one to `wanted`.
    pub(crate) async fn until(&mut self, revision: i64, wanted: &str) -> Result<()> {
        let asked = *self.asked.get(&revision).context("an asked revision")?;
        loop {
            let (came, message) = self.steps.recv().await.context("a step")?;
            let step = &message["data"]["deploymentStatus"];
            let status = step["status"].as_str().context("a status")?;
            if step["revision"].as_i64() != Some(revision) || !REPORTED.contains(&status) {
                continue;
            }
            let at: DateTime<Utc> = step["at"].as_str().context("a time")?.parse()?;
            self.to_subscriber.extend([millis(at, came)]);
            if status == "FETCHING" {
                self.to_worker.extend([millis(asked, at)]);
            }
            if status == wanted {
                return Ok(());
            }
        }
    }
}

fn millis(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).as_seconds_f64() * 1000.0
}
