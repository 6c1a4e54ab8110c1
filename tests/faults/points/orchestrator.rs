//! An orchestrator ends while it works on a new deployment, or on a new commit of an old one.

use crate::fleet::Fleet;
use crate::table::Fault;
use testkit::body_of;
use testkit::fixture::hello;

/// A deployment is requested of an orchestrator that ends at `fault`; it is started again and nothing
/// else is done.
async fn dies_on_the_way(fault: &str) {
    let mut line = Fault::new(&format!("orchestrator ends at {fault}"));
    let mut fleet = Fleet::pair().await;
    let repository = fleet.git.repository("app", &hello("one"));
    fleet.kill("orchestrator").await;
    fleet.start("orchestrator", fault);
    fleet.api.until_ready().await;
    fleet.request("app", &repository, 0).await;
    fleet.dies("orchestrator").await;
    line.is_over();
    fleet.start("orchestrator", "");
    fleet.api.until_ready().await;
    let id = fleet.id_of("app").await;
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL");
    assert_eq!(body_of(url).await.as_deref(), Some("one"));
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn after_the_row_is_there_before_the_answer() {
    dies_on_the_way("orchestrator::create::after_commit_before_answer=abort").await;
}

#[tokio::test]
async fn after_a_claim_before_the_choice_of_a_node() {
    dies_on_the_way("orchestrator::place::after_claim_before_dispatch=abort").await;
}

#[tokio::test]
async fn before_the_dispatch_is_committed() {
    dies_on_the_way("orchestrator::dispatch::before_commit=abort").await;
}

#[tokio::test]
async fn after_commit_before_publish() {
    dies_on_the_way("orchestrator::dispatch::after_commit_before_publish=abort").await;
}

/// What a new deployment needs is sent by whoever gives it to a node. A stop is only a row, until the
/// publisher claims it.
#[tokio::test]
async fn after_the_publisher_has_claimed() {
    let fault = "orchestrator::publish::after_claim_before_publish";
    let mut line = Fault::new(&format!("orchestrator ends at {fault}"));
    let mut fleet = Fleet::pair().await;
    let repository = fleet.git.repository("app", &hello("one"));
    fleet.request("app", &repository, 0).await;
    let id = fleet.id_of("app").await;
    fleet.api.until_latest(&id, 1, "RUNNING").await;
    fleet.kill("orchestrator").await;
    fleet.start("orchestrator", &format!("{fault}=abort"));
    fleet.api.until_ready().await;
    fleet.ask_for("stopDeployment", &id).await;
    fleet.dies("orchestrator").await;
    line.is_over();
    fleet.start("orchestrator", "");
    fleet.api.until_ready().await;
    fleet.api.until_latest(&id, 1, "STOPPED").await;
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

#[tokio::test]
async fn after_publish_before_mark() {
    dies_on_the_way("orchestrator::publish::after_publish_before_mark=abort").await;
}

#[tokio::test]
async fn in_ingest_before_reports_are_applied() {
    dies_on_the_way("orchestrator::ingest::before_apply=1*off->abort").await;
}

#[tokio::test]
async fn in_ingest_before_the_acknowledgement() {
    dies_on_the_way("orchestrator::ingest::after_apply_before_ack=1*off->abort").await;
}

#[tokio::test]
async fn in_a_round_of_the_supervisor() {
    dies_on_the_way("orchestrator::supervise::in_round=3*off->abort").await;
}

#[tokio::test]
async fn after_a_commit_was_seen_before_it_is_recorded() {
    let fault = "orchestrator::watch_git::after_look_before_record";
    let mut line = Fault::new(&format!("orchestrator ends at {fault}"));
    let mut fleet = Fleet::pair().await;
    let repository = fleet.git.repository("app", &hello("one"));
    fleet.request("app", &repository, 5).await;
    let id = fleet.id_of("app").await;
    fleet.api.until_latest(&id, 1, "RUNNING").await;
    fleet.kill("orchestrator").await;
    repository.commit("second", &[("index.html", "two")]);
    fleet.start("orchestrator", &format!("{fault}=abort"));
    fleet.dies("orchestrator").await;
    line.is_over();
    fleet.start("orchestrator", "");
    fleet.api.until_ready().await;
    let running = fleet.api.until_latest(&id, 2, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL");
    assert_eq!(body_of(url).await.as_deref(), Some("two"));
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
