//! What nodes say arrives twice, in another order, again much later, or is not true.

use crate::fleet::Fleet;
use crate::table::Fault;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::fixture::{hello, with_dockerfile};

/// A queue that gets a copy of every report.
const TAP: &str = "tap";

/// The items of bodies, each as a body of its own.
fn items(bodies: &[String]) -> Vec<Value> {
    let bodies = bodies
        .iter()
        .map(|body| serde_json::from_str::<Value>(body).expect("JSON"));
    bodies
        .flat_map(|body| body["items"].as_array().cloned().expect("items"))
        .collect()
}

fn body(items: &[Value]) -> String {
    json!({ "v": 1, "items": items }).to_string()
}

fn is_running(item: &Value) -> bool {
    item["status"] == "RUNNING"
}

/// What the orchestrator counted as changing nothing, for this reason.
async fn ignored(fleet: &Fleet, reason: &str) -> u64 {
    let client = testkit::client(std::time::Duration::from_secs(5));
    let url = format!("{}/metrics", fleet.api.url);
    let request = client.get(url).bearer_auth(testkit::TOKEN);
    let text = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    let start = format!("longshore_reports_ignored_total{{reason=\"{reason}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&start)?.parse().ok())
        .unwrap_or(0)
}

/// Deploys once and hands over what the node said about it.
async fn deployed(fleet: &Fleet) -> (String, Value, Vec<Value>) {
    let repository = fleet.git.repository("app", &hello("one"));
    fleet.broker.tap("deployment", TAP).await;
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    fleet.settle().await;
    let said = items(&fleet.broker.take_all(TAP).await);
    assert!(said.iter().any(is_running), "{said:?}");
    (id, running, said)
}

#[tokio::test]
async fn reports_come_again_and_again_in_any_order() {
    let mut line = Fault::new("reports come ten times, also backwards");
    let fleet = Fleet::pair().await;
    let (id, running, said) = deployed(&fleet).await;
    let revision = running["activeRevision"]["id"].as_str().expect("an id");
    let before = fleet.api.events(revision).await;
    let statuses = said.iter().filter(|item| item["type"] == "status").count() as u64;
    for round in 0..10 {
        let mut again = said.clone();
        if round % 2 == 0 {
            again.reverse();
        }
        // Alone and together: they come in both ways.
        for item in &again {
            fleet
                .broker
                .publish("deployment", &body(std::slice::from_ref(item)))
                .await;
        }
        fleet.broker.publish("deployment", &body(&again)).await;
    }
    line.is_over();
    eventually("all are counted as known", || async {
        (ignored(&fleet, "duplicate").await >= 20 * statuses).then_some(())
    })
    .await;
    assert_eq!(fleet.api.events(revision).await, before);
    assert_eq!(fleet.api.deployment(&id).await, running);
    fleet.broker.untap(TAP).await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

/// Everything that a node says while nobody listens is delivered backwards and twice.
#[tokio::test]
async fn reports_arrive_backwards() {
    let mut line = Fault::new("reports arrive backwards and twice");
    let mut fleet = Fleet::pair().await;
    let slow = testkit::fixture::DOCKERFILE.replace("EXPOSE", "RUN sleep 3\nEXPOSE");
    let repository = fleet.git.repository("app", &with_dockerfile(&slow));
    fleet.broker.tap("deployment", TAP).await;
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    fleet.api.until_latest(&id, 1, "BUILDING").await;
    fleet.kill("orchestrator").await;

    let heard = std::sync::Mutex::new(Vec::new());
    eventually("the node has said everything", || async {
        let said = items(&fleet.broker.take_all(TAP).await);
        let mut heard = heard.lock().expect("not poisoned");
        heard.extend(said);
        heard
            .iter()
            .any(|item: &Value| item["type"] == "finished")
            .then_some(())
    })
    .await;
    fleet.broker.purge("deployment").await;
    let heard = heard.into_inner().expect("not poisoned");
    for item in heard.iter().rev() {
        for _ in 0..2 {
            fleet
                .broker
                .publish("deployment", &body(std::slice::from_ref(item)))
                .await;
        }
    }
    fleet.broker.untap(TAP).await;
    line.is_over();
    fleet.start("orchestrator", "");
    fleet.api.until_ready().await;
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
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
    assert_eq!(steps, clean, "as if nothing had happened");
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

/// A node of an older backup, of another fleet, or with something in mind.
#[tokio::test]
async fn reports_that_are_not_true_change_nothing() {
    let mut line = Fault::new("reports of a future and an older epoch, and of another node");
    let fleet = Fleet::pair().await;
    let (id, running, said) = deployed(&fleet).await;
    let revision = running["activeRevision"]["id"].as_str().expect("an id");
    let before = fleet.api.events(revision).await;
    let true_one = said.into_iter().find(is_running).expect("it said so");
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut lie = true_one.clone();
        lie["seq"] = json!(true_one["seq"].as_i64().expect("a number") + 1);
        lie["status"] = json!("FAILED");
        lie["failure_reason"] = json!("UNHEALTHY");
        change(&mut lie);
        lie
    };
    let epoch = true_one["epoch"].as_i64().expect("a number");
    let lies = [
        (
            "future_epoch",
            lie(&|lie| {
                lie["epoch"] = json!(epoch + 1);
                lie["seq"] = json!(1);
            }),
        ),
        ("stale_epoch", lie(&|lie| lie["epoch"] = json!(epoch - 1))),
        (
            "other_node",
            lie(&|lie| lie["node"] = json!("somebody-else")),
        ),
        (
            "unknown",
            lie(&|lie| lie["revision_id"] = json!(uuid::Uuid::now_v7().to_string())),
        ),
    ];
    for (_, lie) in &lies {
        fleet
            .broker
            .publish("deployment", &body(std::slice::from_ref(lie)))
            .await;
    }
    line.is_over();
    for (reason, _) in &lies {
        eventually(&format!("{reason} is counted"), || async {
            (ignored(&fleet, reason).await == 1).then_some(())
        })
        .await;
    }
    assert_eq!(fleet.api.events(revision).await, before);
    assert_eq!(fleet.api.deployment(&id).await, running);
    fleet.broker.untap(TAP).await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
