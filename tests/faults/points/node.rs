//! A node ends while it replaces what runs, stops it, gives it up or removes it.

use crate::fleet::Fleet;
use crate::table::Fault;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::fixture::{hello, with_dockerfile};
use testkit::git_server::Repository;

/// A fleet with a deployment that runs, on a node that will end at `fault` as soon as it gets there.
struct Stage {
    fleet: Fleet,
    repository: Repository,
    id: String,
    url: String,
}

impl Stage {
    async fn set() -> Self {
        let fleet = Fleet::pair().await;
        let repository = fleet.git.repository("app", &hello("one"));
        let deployment = fleet.api.create_git("app", &repository.url).await;
        let id = deployment["id"].as_str().expect("an id").to_owned();
        let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
        let url = running["url"].as_str().expect("a URL").to_owned();
        Self {
            fleet,
            repository,
            id,
            url,
        }
    }

    async fn arm(&mut self, fault: &str) {
        self.fleet.kill("node").await;
        self.fleet.start("node", fault);
        self.fleet.until_ready("node").await;
    }

    async fn act(&self, mutation: &str) {
        let answer = self.fleet.api.act(mutation, &self.id).await;
        assert!(answer.errors.is_empty(), "{answer:?}");
    }

    /// It ended there, and is started again.
    async fn dies_and_returns(&mut self, line: &mut Fault) {
        self.fleet.dies("node").await;
        line.is_over();
        self.fleet.start("node", "");
    }

    async fn end(self, line: Fault) {
        self.fleet.settle().await;
        line.converged();
        self.fleet.clear().await;
    }
}

/// Asks a page again and again, and counts what is not answered.
struct Visitor {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u32, u32)>,
}

impl Visitor {
    fn of(url: &str) -> Self {
        let (url, stop) = (url.to_owned(), Arc::new(AtomicBool::new(false)));
        let is_stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let client = testkit::client(std::time::Duration::from_secs(5));
            let (mut asked, mut failed) = (0, 0);
            while !is_stopped.load(Ordering::Relaxed) {
                asked += 1;
                failed += u32::from(testkit::ask(&client, &url).await.is_none());
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            (asked, failed)
        });
        Self { stop, task }
    }

    async fn leaves(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a visitor")
    }
}

/// A second revision is on its way when the node ends at `fault`.
async fn dies_while_deploying(fault: &str) {
    let mut line = Fault::new(&format!("node ends at {fault}"));
    let mut stage = Stage::set().await;
    stage.arm(fault).await;
    let visitor = Visitor::of(&stage.url);
    // Another line that runs something: nothing of the build is known from elsewhere.
    let dockerfile = testkit::fixture::DOCKERFILE.replace(
        "EXPOSE",
        &format!("RUN echo {} && sleep 1\nEXPOSE", stage.id),
    );
    stage.repository.commit(
        "second",
        &[("Dockerfile", &dockerfile), ("index.html", "two")],
    );
    stage.act("redeployDeployment").await;
    stage.dies_and_returns(&mut line).await;
    let running = stage.fleet.api.until_latest(&stage.id, 2, "RUNNING").await;
    assert_eq!(running["url"], stage.url, "the port stays");
    let (asked, failed) = visitor.leaves().await;
    assert!(asked > 0, "somebody asked");
    assert_eq!(failed, 0, "of {asked} requests");
    let page = testkit::body_of(&stage.url).await;
    assert_eq!(page.as_deref(), Some("two"));
    stage.end(line).await;
}

#[tokio::test]
async fn after_delivery_before_journal() {
    dies_while_deploying("node::worker::after_delivery_before_journal=abort").await;
}

#[tokio::test]
async fn after_journal_before_ack() {
    dies_while_deploying("node::worker::after_journal_before_ack=abort").await;
}

#[tokio::test]
async fn before_the_journal_is_written() {
    dies_while_deploying("node::journal::before_write=3*off->abort").await;
}

#[tokio::test]
async fn in_fetch() {
    dies_while_deploying("node::action::in_fetch=abort").await;
}

#[tokio::test]
async fn in_build() {
    dies_while_deploying("node::action::in_build=5*off->abort").await;
}

#[tokio::test]
async fn after_the_build_before_it_is_journalled() {
    dies_while_deploying("node::action::after_build_before_journal=abort").await;
}

#[tokio::test]
async fn between_create_and_start() {
    dies_while_deploying("node::action::between_create_and_start=abort").await;
}

#[tokio::test]
async fn before_verify() {
    dies_while_deploying("node::action::before_verify=abort").await;
}

#[tokio::test]
async fn before_the_ports_are_switched() {
    dies_while_deploying("node::switch::before_routes=abort").await;
}

#[tokio::test]
async fn after_the_ports_are_switched_before_that_is_journalled() {
    dies_while_deploying("node::switch::after_routes_before_journal=abort").await;
}

/// The report waits long enough for the process to end before it is sent.
#[tokio::test]
async fn after_running_before_report() {
    dies_while_deploying(
        "node::action::after_running_before_report=abort;node::outbox::before_publish=sleep(500)",
    )
    .await;
}

#[tokio::test]
async fn before_a_report_is_sent() {
    dies_while_deploying("node::outbox::before_publish=2*off->abort").await;
}

#[tokio::test]
async fn after_a_report_is_sent_before_it_is_forgotten() {
    dies_while_deploying("node::outbox::after_publish_before_forget=2*off->abort").await;
}

#[tokio::test]
async fn before_the_old_revision_is_removed() {
    dies_while_deploying("node::retire::before_remove=abort").await;
}

#[tokio::test]
async fn after_the_old_revision_is_removed_before_that_is_journalled() {
    dies_while_deploying("node::retire::after_remove_before_forget=abort").await;
}

/// Twice: in the middle of a build, and again while it takes up what it left.
#[tokio::test]
async fn while_it_recovers() {
    let fault = "node::recover::before_work";
    let mut line = Fault::new(&format!("node ends at {fault}"));
    let mut stage = Stage::set().await;
    stage.arm("node::action::in_fetch=abort").await;
    stage.act("redeployDeployment").await;
    stage.fleet.dies("node").await;
    stage.fleet.start("node", &format!("{fault}=abort"));
    stage.dies_and_returns(&mut line).await;
    stage.fleet.api.until_latest(&stage.id, 2, "RUNNING").await;
    stage.end(line).await;
}

#[tokio::test]
async fn after_a_stop_before_its_report() {
    let fault = "node::stop::after_stop_before_report";
    let mut line = Fault::new(&format!("node ends at {fault}"));
    let mut stage = Stage::set().await;
    stage.arm(&format!("{fault}=abort")).await;
    stage.act("stopDeployment").await;
    stage.dies_and_returns(&mut line).await;
    stage.fleet.api.until_status(&stage.id, "STOPPED").await;
    stage.end(line).await;
}

async fn dies_while_destroying(fault: &str) {
    let mut line = Fault::new(&format!("node ends at {fault}"));
    let mut stage = Stage::set().await;
    stage.arm(&format!("{fault}=abort")).await;
    stage.act("destroyDeployment").await;
    stage.dies_and_returns(&mut line).await;
    stage.end(line).await;
}

#[tokio::test]
async fn before_a_deployment_is_purged() {
    dies_while_destroying("node::destroy::before_purge").await;
}

#[tokio::test]
async fn after_a_deployment_is_purged_before_its_report() {
    dies_while_destroying("node::destroy::after_purge_before_report").await;
}

/// What served before goes on, and the cancelled build leaves nothing.
#[tokio::test]
async fn while_it_gives_up_a_revision() {
    let fault = "node::cancel::before_report";
    let mut line = Fault::new(&format!("node ends at {fault}"));
    let mut stage = Stage::set().await;
    stage.arm(&format!("{fault}=abort")).await;
    let slow = format!("FROM busybox\nRUN echo {} && sleep 300\n", stage.id);
    for (path, text) in with_dockerfile(&slow) {
        std::fs::write(stage.repository.work_tree().join(path), text).expect("a file");
    }
    stage.repository.push("slow");
    stage.act("redeployDeployment").await;
    let building = stage.fleet.api.until_latest(&stage.id, 2, "BUILDING").await;
    let revision = &building["latestRevision"]["id"];
    let cancel = "mutation($id: ID!) { cancelRevision(id: $id) { id } }";
    stage
        .fleet
        .api
        .data(cancel, json!({ "id": revision }))
        .await;
    stage.dies_and_returns(&mut line).await;
    stage
        .fleet
        .api
        .until_latest(&stage.id, 2, "CANCELLED")
        .await;
    let page = testkit::body_of(&stage.url).await;
    assert_eq!(page.as_deref(), Some("one"));
    stage.end(line).await;
}
