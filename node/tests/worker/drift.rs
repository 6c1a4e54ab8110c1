//! What somebody does behind the node's back, and what a mistake in the node itself does.

use super::app::App;
use super::support::Stage;
use node::runtime::Runtime as _;
use node::runtime::simulated::Step;
use shared::message::{ServiceSelection, WorkAction, WorkRequest};
use shared::status::{ApplicationStatus as S, FailureReason};

/// Waits until a revision is said to be down for `reason`, and then to run again.
async fn until_mended(stage: &Stage, app: &App, reason: &str) {
    let degraded = stage.until_status(app.revision_id, S::Degraded).await;
    let detail = degraded.detail.unwrap();
    assert!(detail.contains(reason), "{detail}");
    stage
        .until("it runs again", |stage| {
            stage
                .statuses(app.revision_id)
                .into_iter()
                .rfind(|report| report.status == S::Running && report.seq > degraded.seq)
        })
        .await;
}

#[tokio::test]
async fn a_container_that_was_stopped_by_hand_is_started_again() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let container = stage.machine.containers().remove(0);
    stage.machine.stop_by_hand(&container.facts.id);
    until_mended(&stage, &app, "exited with code 137").await;
    let containers = stage.machine.containers();
    assert!(containers.len() == 1 && containers[0].state.running);
    assert_eq!(containers[0].facts, container.facts);
}

#[tokio::test]
async fn a_container_that_was_removed_by_hand_is_made_again_in_its_place() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let (container, routes) = (stage.machine.containers().remove(0), stage.machine.routes());
    stage.machine.remove_by_hand(&container.facts.id);
    until_mended(&stage, &app, "is gone").await;
    let made = stage.machine.containers().remove(0);
    assert_ne!(made.facts.id, container.facts.id);
    assert_eq!(made.facts.attempt, container.facts.attempt);
    assert_eq!(stage.machine.routes(), routes);
}

#[tokio::test]
async fn what_was_removed_while_no_node_ran_is_made_again() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    stage.kill();
    let container = stage.machine.containers().remove(0);
    stage.machine.remove_by_hand(&container.facts.id);
    stage.start().await;
    until_mended(&stage, &app, "is gone").await;
    assert_eq!(stage.machine.containers().len(), 1);
}

#[tokio::test]
async fn what_is_stopped_on_request_and_started_by_hand_is_stopped_again() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let stop = app.work(&stage, WorkAction::Stop(ServiceSelection::default()));
    stage.does(&stop).await;
    stage.stop().await;
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.start(&container).await.unwrap();
    stage.start().await;
    let said = stage
        .until("it is said", |stage| {
            stage
                .statuses(app.revision_id)
                .into_iter()
                .find(|report| report.status == S::Stopped && report.detail.is_some())
        })
        .await;
    assert!(said.detail.unwrap().contains("by hand"));
    assert!(!stage.machine.containers()[0].state.running);
}

#[tokio::test]
async fn an_action_that_panics_is_begun_again_in_this_process() {
    let stage = Stage::new().await;
    stage
        .machine
        .behave(|behaviour| behaviour.fetch = Step::Panics);
    let app = App::new();
    let deploy = app.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_step("fetch").await;
    stage
        .machine
        .behave(|behaviour| behaviour.fetch = Step::Passes);
    stage.until_status(app.revision_id, S::Running).await;
    stage.until_finished(&deploy).await;
}

#[tokio::test]
async fn an_action_that_panics_always_fails_and_leaves_the_old_one_serving() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let (containers, routes) = (stage.machine.containers(), stage.machine.routes());
    stage.machine.behave(|behaviour| {
        behaviour.content = "b".to_owned();
        behaviour.build = Step::Panics;
    });
    let next = app.next();
    let deploy = next.deploy(&stage);
    stage.send(&[&deploy]).await;
    let failed = stage.until_status(next.revision_id, S::Failed).await;
    stage.until_finished(&deploy).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::BuildFailed));
    assert!(failed.detail.unwrap().contains("internal error"));
    let builds = stage.machine.steps();
    let builds = builds.iter().filter(|step| *step == "build").count();
    assert_eq!(builds, 1 + 4);
    assert_eq!(stage.machine.containers(), containers);
    assert_eq!(stage.machine.routes(), routes);
}

#[tokio::test]
async fn a_cancel_of_a_newer_attempt_takes_down_the_older_one_that_serves() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let same = app.work(&stage, WorkAction::Cancel);
    stage.does(&same).await;
    assert_eq!(
        stage.machine.containers().len(),
        1,
        "what runs is not cancelled"
    );
    let newer = WorkRequest {
        epoch: 2,
        ..app.work(&stage, WorkAction::Cancel)
    };
    stage.does(&newer).await;
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Cancelled));
    assert!(stage.machine.containers().is_empty() && stage.machine.routes().is_empty());
}
