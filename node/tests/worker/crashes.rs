//! A node that is killed at some step, or told to stop, and the one that comes after it.

use super::app::App;
use super::support::Stage;
use node::runtime::simulated::Step;
use node::{Node, StartError};
use shared::message::{NodeReport, ReportFacts, ServiceSelection, WorkAction, WorkRequest};
use shared::source::{ImageRef, ImageSource, Source};
use shared::status::ApplicationStatus as S;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const WAY: [S; 5] = [
    S::Fetching,
    S::Building,
    S::Starting,
    S::Verifying,
    S::Running,
];

/// Each step was said once. The same report may have been sent twice, and what was learnt by the
/// second try is told without a step.
fn check_said_once(stage: &Stage, app: &App) {
    let mut reports = stage.statuses(app.revision_id);
    reports.sort_by_key(|report| report.seq);
    reports.dedup_by_key(|report| report.seq);
    let seqs = 1..=i32::try_from(reports.len()).unwrap();
    assert!(
        reports.iter().map(|report| report.seq).eq(seqs),
        "{reports:?}"
    );
    reports.dedup_by_key(|report| report.status);
    assert_eq!(
        reports
            .iter()
            .map(|report| report.status)
            .collect::<Vec<_>>(),
        WAY
    );
}

/// Kills the node while a second revision is at `status`, and lets the next one go on.
async fn check_killed_at(status: S) {
    let mut stage = Stage::new().await;
    let first = App::new();
    first.runs(&stage).await;
    let serving = stage.machine.routes();
    stage.machine.behave(|behaviour| {
        behaviour.content = "b".to_owned();
        match status {
            S::Fetching => behaviour.fetch = Step::Hangs,
            S::Building => behaviour.build = Step::Hangs,
            _ => behaviour.answers = false,
        }
    });
    let second = first.next();
    let deploy = second.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_status(second.revision_id, status).await;
    stage.kill();
    assert_eq!(
        stage.machine.routes(),
        serving,
        "the old revision serves on"
    );
    stage.machine.behave(|behaviour| {
        behaviour.fetch = Step::Passes;
        behaviour.build = Step::Passes;
        behaviour.answers = true;
    });
    stage.start().await;
    stage.until_finished(&deploy).await;
    check_said_once(&stage, &second);
    let only_the_second = |stage: &Stage| {
        let containers = stage.machine.containers();
        (containers.len() == 1 && containers[0].facts.attempt.revision == 2)
            .then(|| containers[0].clone())
    };
    let container = stage
        .until("no second container is left", only_the_second)
        .await;
    assert_eq!(stage.machine.routes()[0].address, container.address);
}

#[tokio::test]
async fn killed_while_fetching_it_begins_again() {
    check_killed_at(S::Fetching).await;
}

#[tokio::test]
async fn killed_while_building_it_begins_again() {
    check_killed_at(S::Building).await;
}

#[tokio::test]
async fn killed_while_verifying_it_begins_again() {
    check_killed_at(S::Verifying).await;
}

#[tokio::test]
async fn begun_again_it_is_about_the_commit_that_it_found() {
    check_begun_again(App::deploy, |said| said.commit.map(String::from)).await;
}

#[tokio::test]
async fn begun_again_it_is_about_the_digest_that_it_found() {
    let of_an_image = |app: &App, stage: &Stage| {
        let image = ImageRef::parse("registry.example/app:v1").unwrap();
        app.deploy_of(stage, Source::Image(ImageSource { image, port: None }))
    };
    check_begun_again(of_an_image, |said| said.image_digest.map(String::from)).await;
}

async fn check_begun_again(
    deploy: impl Fn(&App, &Stage) -> WorkRequest,
    version: impl Fn(ReportFacts) -> Option<String>,
) {
    let mut stage = Stage::new().await;
    let app = App::new();
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Hangs);
    let deploy = deploy(&app, &stage);
    stage.send(&[&deploy]).await;
    stage.until_status(app.revision_id, S::Building).await;
    stage.kill();
    // Somebody pushes meanwhile.
    stage.machine.behave(|behaviour| {
        behaviour.build = Step::Passes;
        behaviour.content = "b".to_owned();
    });
    stage.start().await;
    stage.until_finished(&deploy).await;
    let said = stage.statuses(app.revision_id).into_iter();
    let versions: Vec<_> = said.filter_map(|said| version(said.facts)).collect();
    let is_the_first = |version: &String| version.ends_with(&"a".repeat(40));
    assert!(
        versions.len() > 1 && versions.iter().all(is_the_first),
        "{versions:?}"
    );
}

#[tokio::test]
async fn what_runs_is_taken_up_and_never_stopped() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let containers = stage.machine.containers();
    let steps = stage.machine.steps();
    stage.kill();
    stage.start().await;
    // It is watched again: a crash is seen.
    stage
        .until("it is ready", |stage| {
            stage
                .heartbeat()
                .filter(|said| said.ready && said.load.running == 1)
        })
        .await;
    assert_eq!(stage.machine.containers(), containers);
    assert_eq!(stage.machine.steps(), steps);
    let container = containers[0].facts.id.clone();
    stage.machine.answer(&container, false);
    stage.machine.crash(&container, 1);
    stage.until_status(app.revision_id, S::Degraded).await;
}

#[tokio::test]
async fn reports_that_nobody_took_are_sent_by_the_next_process_in_order() {
    let mut stage = Stage::empty().await;
    stage.start().await;
    let app = App::new();
    stage.send(&[&app.deploy(&stage)]).await;
    stage
        .until("it runs", |stage| {
            (!stage.machine.routes().is_empty()).then_some(())
        })
        .await;
    stage.kill();
    stage.listen().await;
    stage.start().await;
    stage.until_status(app.revision_id, S::Running).await;
    check_said_once(&stage, &app);
    assert!(matches!(
        stage.reports().first(),
        Some(NodeReport::Accepted(_))
    ));
}

#[tokio::test]
async fn told_to_stop_it_keeps_its_work_and_what_runs() {
    let mut stage = Stage::new().await;
    let running = App::new();
    running.runs(&stage).await;
    stage.machine.behave(|behaviour| behaviour.answers = false);
    let candidate = running.next();
    let deploy = candidate.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage
        .until_status(candidate.revision_id, S::Verifying)
        .await;
    stage.stop().await;
    let containers = stage.machine.containers();
    assert!(
        containers.len() == 1 && containers[0].facts.attempt.revision == 1,
        "{containers:?}"
    );
    assert_eq!(stage.machine.routes().len(), 1);
    stage.machine.behave(|behaviour| behaviour.answers = true);
    stage.start().await;
    stage.until_finished(&deploy).await;
    check_said_once(&stage, &candidate);
}

#[tokio::test]
async fn a_cancel_that_was_accepted_before_the_end_is_done_by_the_next_process() {
    let mut stage = Stage::new().await;
    let app = App::new();
    stage.machine.behave(|behaviour| behaviour.answers = false);
    let deploy = app.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_status(app.revision_id, S::Verifying).await;
    // With the engine away the cancel is accepted and cannot be done.
    stage.machine.engine_is_away(true);
    let cancel = app.work(&stage, WorkAction::Cancel);
    stage.send(&[&cancel]).await;
    stage.until_accepted(&cancel).await;
    stage.kill();
    stage.machine.engine_is_away(false);
    stage.machine.behave(|behaviour| behaviour.answers = true);
    stage.start().await;
    stage.until_status(app.revision_id, S::Cancelled).await;
    stage.until_finished(&cancel).await;
    stage
        .until("nothing is left", |stage| {
            stage.machine.containers().is_empty().then_some(())
        })
        .await;
    assert!(!stage.words(app.revision_id).contains(&S::Running));
}

#[tokio::test]
async fn stopped_on_request_stays_stopped() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let stop = app.work(&stage, WorkAction::Stop(ServiceSelection::default()));
    stage.does(&stop).await;
    stage.kill();
    stage.start().await;
    stage
        .until("it is ready", |stage| {
            stage
                .heartbeat()
                .filter(|said| said.ready && said.load.running == 0)
        })
        .await;
    assert!(!stage.machine.containers()[0].state.running && stage.machine.routes().is_empty());
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Stopped));
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused() {
    let stage = Stage::new().await;
    let world = Arc::new(stage.machine.clone());
    let second = Node::start_on(
        stage.settings.clone(),
        Arc::new(stage.bus.clone()),
        world,
        CancellationToken::new(),
    )
    .await;
    assert!(matches!(second, Err(StartError::StateDirInUse { .. })));
}
