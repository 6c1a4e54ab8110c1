//! Deployment actions that come to their end.

use super::app::App;
use super::support::Stage;
use node::runtime::simulated::Step;
use shared::message::NodeReport;
use shared::spec::HealthSpec;
use shared::status::{ApplicationStatus as S, FailureReason};
use std::time::Duration;

const WAY: [S; 5] = [
    S::Fetching,
    S::Building,
    S::Starting,
    S::Verifying,
    S::Running,
];

/// A check that gives up soon.
fn impatient() -> HealthSpec {
    HealthSpec {
        interval: Duration::from_millis(50),
        start_period: Duration::ZERO,
        ..HealthSpec::default()
    }
}

#[tokio::test]
async fn each_step_is_said_once_and_in_order() {
    let stage = Stage::new().await;
    let app = App::new();
    let deploy = app.deploy(&stage);
    stage.does(&deploy).await;

    let statuses = stage.statuses(app.revision_id);
    assert_eq!(
        statuses
            .iter()
            .map(|report| report.status)
            .collect::<Vec<_>>(),
        WAY
    );
    assert_eq!(
        statuses.iter().map(|report| report.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let reports = stage.reports();
    assert!(
        matches!(reports.first(), Some(NodeReport::Accepted(_))),
        "{reports:?}"
    );
    assert!(
        matches!(reports.last(), Some(NodeReport::Finished(_))),
        "{reports:?}"
    );

    let facts = &statuses[1].facts;
    assert!(facts.commit.is_some() && facts.spec.is_some() && facts.content_hash.is_some());
    let facts = &statuses[4].facts;
    assert_eq!(facts.ports.as_ref().map(|ports| ports[0].port), Some(3000));
    assert_eq!(
        facts.services.as_ref().map(|services| services[0].status),
        Some(S::Running)
    );
    assert_eq!(stage.machine.routes().len(), 1);
}

#[tokio::test]
async fn the_build_log_has_every_line_and_an_end() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let lines = stage
        .until("the end of the log", |stage| {
            stage.log_ended(app.revision_id)
        })
        .await;
    stage
        .until("every line", |stage| {
            (stage.log(app.revision_id).len() as i64 == lines).then_some(())
        })
        .await;
    let log = stage.log(app.revision_id);
    for wanted in [
        "warning: a warning",
        "building",
        "port 3000 leads to app:8000",
    ] {
        assert!(
            log.iter().any(|line| line == wanted),
            "{wanted} is not in {log:#?}"
        );
    }
}

#[tokio::test]
async fn a_redeploy_keeps_the_port_and_the_old_one_goes_after_the_switch() {
    let stage = Stage::new().await;
    let first = App::new();
    first.runs(&stage).await;
    let before = stage.machine.routes();
    let second = first.next();
    stage
        .machine
        .behave(|behaviour| behaviour.content = "b".to_owned());
    second.runs(&stage).await;
    let after = stage.machine.routes();
    assert_eq!((before[0].port, after[0].port), (3000, 3000));
    assert_ne!(before[0].address, after[0].address);
    let gone = |stage: &Stage| {
        let containers = stage.machine.containers();
        (containers.len() == 1 && containers[0].facts.attempt.revision == 2).then_some(())
    };
    stage.until("the old container goes", gone).await;
}

#[tokio::test]
async fn known_content_is_not_built_again() {
    let stage = Stage::new().await;
    let first = App::new();
    first.runs(&stage).await;
    let second = first.next();
    second.runs(&stage).await;
    assert_eq!(stage.machine.builds(), 1);
    assert_eq!(
        stage.words(second.revision_id),
        WAY,
        "BUILDING is said all the same"
    );
    stage
        .until("it is said", |stage| {
            stage
                .log(second.revision_id)
                .iter()
                .any(|line| line.starts_with("already built"))
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn only_the_newest_images_are_kept() {
    let stage = Stage::new().await;
    let mut app = App::new();
    for content in ["a", "b", "c", "d", "e"] {
        stage
            .machine
            .behave(|behaviour| behaviour.content = content.to_owned());
        app.runs(&stage).await;
        app = app.next();
    }
    stage
        .until("three are left", |stage| {
            (stage.machine.images().len() == 3).then_some(())
        })
        .await;
    assert!(
        stage
            .machine
            .images()
            .iter()
            .all(|image| !image.contains(":a") && !image.contains(":b"))
    );
}

#[tokio::test]
async fn images_of_what_fails_go_before_those_that_served() {
    let stage = Stage::new().await;
    let mut app = App::new();
    app.runs(&stage).await;
    let good = stage.machine.images();
    for content in ["b", "c", "d", "e"] {
        stage.machine.behave(|behaviour| {
            behaviour.content = content.to_owned();
            behaviour.exits = Some(1);
        });
        app = app.next();
        let deploy = app.deploy(&stage);
        stage.does(&deploy).await;
        stage.until_status(app.revision_id, S::Failed).await;
    }
    let images = stage.machine.images();
    assert_eq!(images.len(), 3, "{images:?}");
    assert!(images.contains(&good[0]), "{images:?}");
    assert!(
        !images.iter().any(|image| image.contains(":e")),
        "{images:?}"
    );
}

#[tokio::test]
async fn what_takes_the_engine_down_each_time_fails() {
    let stage = Stage::new().await;
    let app = App::new();
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Fells);
    let deploy = app.deploy(&stage);
    stage.does(&deploy).await;
    let failed = stage.until_status(app.revision_id, S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::BuildFailed));
    let detail = failed.detail.unwrap_or_default();
    assert_eq!(detail, "begun 6 times, and each time the engine ended");
    assert!(stage.machine.containers().is_empty());
}

async fn check_failure(
    break_it: impl FnOnce(&mut node::runtime::simulated::Behaviour),
    reason: FailureReason,
    said: &str,
) {
    let stage = Stage::new().await;
    let good = App::new();
    good.runs(&stage).await;
    let serving = stage.machine.routes();
    stage
        .machine
        .behave(|behaviour| behaviour.content = "b".to_owned());
    stage.machine.behave(break_it);
    let bad = good.next();
    let deploy = bad.deploy(&stage);
    stage.send(&[&deploy]).await;
    let failed = stage.until_status(bad.revision_id, S::Failed).await;
    stage.until_finished(&deploy).await;
    assert_eq!(failed.failure_reason, Some(reason));
    assert!(failed.facts.commit.is_some(), "what it was about is known");
    assert!(
        failed
            .detail
            .as_deref()
            .is_some_and(|detail| detail.contains(said)),
        "{failed:?}"
    );
    assert_eq!(
        stage.machine.routes(),
        serving,
        "the old revision serves on"
    );
    let containers = stage.machine.containers();
    assert!(
        containers
            .iter()
            .all(|container| container.facts.attempt.revision == 1 && container.state.running)
    );
    assert_eq!(containers.len(), 1);
    stage
        .until("the log ends", |stage| stage.log_ended(bad.revision_id))
        .await;
    assert_eq!(stage.words(good.revision_id).last(), Some(&S::Running));
}

#[tokio::test]
async fn a_candidate_whose_source_cannot_be_had_leaves_the_old_one_serving() {
    let step = Step::Fails(FailureReason::FetchFailed, "no such repository".to_owned());
    check_failure(
        |behaviour| behaviour.fetch = step,
        FailureReason::FetchFailed,
        "no such repository",
    )
    .await;
}

#[tokio::test]
async fn a_candidate_that_does_not_build_leaves_the_old_one_serving() {
    let step = Step::Fails(FailureReason::BuildFailed, "exit code 3".to_owned());
    check_failure(
        |behaviour| behaviour.build = step,
        FailureReason::BuildFailed,
        "exit code 3",
    )
    .await;
}

#[tokio::test]
async fn a_candidate_that_exits_leaves_the_old_one_serving() {
    check_failure(
        |behaviour| behaviour.exits = Some(3),
        FailureReason::Unhealthy,
        "exited with code 3",
    )
    .await;
}

#[tokio::test]
async fn a_candidate_that_never_listens_leaves_the_old_one_serving() {
    let never_listens = |behaviour: &mut node::runtime::simulated::Behaviour| {
        behaviour.answers = false;
        behaviour.health = impatient();
    };
    check_failure(
        never_listens,
        FailureReason::Unhealthy,
        "the container listens on 3000",
    )
    .await;
}

#[tokio::test]
async fn a_port_that_is_bound_is_passed_over() {
    let stage = Stage::new().await;
    stage.machine.take_port(3000);
    let app = App::new();
    app.runs(&stage).await;
    assert_eq!(stage.machine.routes()[0].port, 3001);
}

#[tokio::test]
async fn more_ports_than_a_host_gives_are_said_to_be_too_many() {
    let stage = Stage::new().await;
    let app = App {
        fresh: Vec::new(),
        ..App::new()
    };
    stage.send(&[&app.deploy(&stage)]).await;
    let failed = stage.until_status(app.revision_id, S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::PortUnavailable));
    let detail = failed.detail.unwrap();
    assert!(
        detail.contains("1 ports want to be reached and a host gives 0 at most"),
        "{detail}"
    );
}

#[tokio::test]
async fn no_port_at_all_is_said_with_the_ports() {
    let stage = Stage::new().await;
    let app = App::new();
    for port in &app.fresh {
        stage.machine.take_port(*port);
    }
    stage.send(&[&app.deploy(&stage)]).await;
    let failed = stage.until_status(app.revision_id, S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::PortUnavailable));
    assert!(failed.detail.unwrap().contains("3000, 3001, 3002"));
    assert!(stage.machine.containers().is_empty());
}
