//! What runs: stopping, starting, crashes, an engine that goes away, logs.

use super::app::App;
use super::support::Stage;
use node::runtime::Runtime as _;
use shared::id::StreamId;
use shared::message::{ReportFacts, ServiceSelection, WorkAction};
use shared::spec::HealthSpec;
use shared::status::ApplicationStatus as S;
use std::time::Duration;

fn all() -> ServiceSelection {
    ServiceSelection::default()
}

#[tokio::test]
async fn stopped_it_refuses_and_started_it_answers_on_the_same_port() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let before = stage.machine.routes();

    stage
        .send(&[&app.work(&stage, WorkAction::Stop(all()))])
        .await;
    let stopped = stage.until_status(app.revision_id, S::Stopped).await;
    assert_eq!(stopped.facts.services.unwrap()[0].status, S::Stopped);
    assert!(stage.machine.routes().is_empty());
    assert!(!stage.machine.containers()[0].state.running);

    let start = app.work(&stage, WorkAction::Start(all()));
    stage.does(&start).await;
    let words = stage.words(app.revision_id);
    assert_eq!(
        words[words.len() - 4..],
        [S::Stopped, S::Starting, S::Verifying, S::Running]
    );
    assert_eq!(stage.machine.routes(), before);
}

#[tokio::test]
async fn a_restart_goes_through_starting_and_verifying() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let restart = app.work(&stage, WorkAction::Restart(all()));
    stage.does(&restart).await;
    let words = stage.words(app.revision_id);
    assert_eq!(
        words[words.len() - 3..],
        [S::Starting, S::Verifying, S::Running]
    );
    assert_eq!(stage.machine.containers().len(), 1);
}

#[tokio::test]
async fn what_does_not_come_up_again_is_stopped_and_kept_and_nothing_follows() {
    let stage = Stage::new().await;
    let app = App {
        given: 1,
        ..App::new()
    };
    app.runs(&stage).await;
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.ends_at_once(&container, 3);
    let restart = app.work(&stage, WorkAction::Restart(all()));
    let start = app.work(&stage, WorkAction::Start(all()));
    stage.send(&[&restart, &start]).await;
    stage.until_finished(&start).await;
    let failed = stage.statuses(app.revision_id).pop().unwrap();
    assert_eq!(
        failed.status,
        S::Failed,
        "what was asked for after it is not done"
    );
    assert_eq!(failed.facts.services.unwrap()[0].status, S::Stopped);
    stage.tell_and_wait(2, &[app.assigned(S::Failed)]).await;
    let kept = stage.machine.containers();
    assert!(kept.len() == 1 && !kept[0].state.running, "{kept:?}");
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Failed));
}

#[tokio::test]
async fn a_restart_of_what_was_replaced_meanwhile_says_nothing_of_it() {
    let stage = Stage::new().await;
    let old = App::new();
    old.runs(&stage).await;
    let new = old.next();
    new.runs(&stage).await;
    let before = stage.words(old.revision_id);
    let restart = old.work(&stage, WorkAction::Restart(all()));
    stage.does(&restart).await;
    // That the new one runs is what ends the old one; it did not fail.
    assert_eq!(stage.words(old.revision_id), before);
}

#[tokio::test]
async fn starting_what_was_removed_by_hand_makes_it_again() {
    use node::runtime::Runtime as _;
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let stop = app.work(&stage, WorkAction::Stop(all()));
    stage.does(&stop).await;
    let container = stage.machine.containers().remove(0);
    stage.machine.remove(&container.facts.id).await.unwrap();
    let start = app.work(&stage, WorkAction::Start(all()));
    stage.does(&start).await;
    assert_eq!(stage.machine.containers()[0].address, container.address);
    assert_eq!(stage.machine.routes()[0].address, container.address);
}

#[tokio::test]
async fn a_crash_is_degraded_and_then_running_again() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.crash(&container, 9);
    let degraded = stage.until_status(app.revision_id, S::Degraded).await;
    let detail = degraded.detail.unwrap();
    assert!(
        detail.contains("exited with code 9") && detail.contains("its last line"),
        "{detail}"
    );
    let back = stage
        .until("it runs again", |stage| {
            stage
                .statuses(app.revision_id)
                .into_iter()
                .rfind(|report| report.status == S::Running && report.seq > degraded.seq)
        })
        .await;
    assert!(back.detail.unwrap().contains("restarted once"));
    // The first RUNNING may have been lost: whoever hears only this knows everything.
    let mut said = stage.statuses(app.revision_id).into_iter();
    let first = said
        .find(|report| report.status == S::Running)
        .unwrap()
        .facts;
    assert_eq!(back.facts.services.as_ref().unwrap()[0].restarts, 1);
    assert!(first.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
    for facts in [degraded.facts, back.facts] {
        let services = first.services.clone();
        assert_eq!(ReportFacts { services, ..facts }, first);
    }
}

#[tokio::test]
async fn what_answers_no_more_is_degraded_after_its_retries() {
    let stage = Stage::new().await;
    let app = App::new();
    stage.machine.behave(|behaviour| {
        behaviour.health = HealthSpec {
            interval: Duration::from_millis(50),
            ..HealthSpec::default()
        };
    });
    app.runs(&stage).await;
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.answer(&container, false);
    let degraded = stage.until_status(app.revision_id, S::Degraded).await;
    assert!(degraded.detail.unwrap().contains("connection refused"));
    stage.machine.answer(&container, true);
    stage
        .until("it runs again", |stage| {
            stage
                .statuses(app.revision_id)
                .last()
                .filter(|report| report.status == S::Running && report.seq > degraded.seq)
                .map(drop)
        })
        .await;
}

#[tokio::test]
async fn what_was_degraded_when_the_node_ended_is_said_to_run_once_it_answers() {
    let mut stage = Stage::new().await;
    let app = App::new();
    stage.machine.behave(|behaviour| {
        behaviour.health = HealthSpec {
            interval: Duration::from_millis(50),
            ..HealthSpec::default()
        };
    });
    app.runs(&stage).await;
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.answer(&container, false);
    let degraded = stage.until_status(app.revision_id, S::Degraded).await;
    stage.stop().await;
    stage.machine.answer(&container, true);
    stage.start().await;
    stage
        .until("it runs again", |stage| {
            stage
                .statuses(app.revision_id)
                .last()
                .filter(|report| report.status == S::Running && report.seq > degraded.seq)
                .map(drop)
        })
        .await;
}

#[tokio::test]
async fn a_port_that_leads_to_nothing_known_is_closed_also_when_no_other_is_open() {
    use node::runtime::{PortRoute, Runtime as _};
    let mut stage = Stage::empty().await;
    let route = PortRoute {
        port: 3000,
        address: std::net::Ipv4Addr::new(10, 201, 0, 2),
        container_port: 8000,
    };
    stage.machine.expose(&[route], &[]).await.unwrap();
    stage.listen().await;
    stage.start().await;
    stage
        .until("it is closed", |stage| {
            stage.machine.routes().is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_engine_that_is_away_makes_the_node_not_ready_and_work_wait() {
    let stage = Stage::empty().await;
    stage.machine.engine_is_away(true);
    let mut stage = stage;
    stage.listen().await;
    stage.start().await;
    let not_ready = stage
        .until("it is not ready", |stage| {
            stage.heartbeat().filter(|said| {
                !said.ready
                    && said
                        .detail
                        .as_deref()
                        .is_some_and(|detail| detail.contains("switched off"))
            })
        })
        .await;
    assert_eq!(not_ready.engine, None);
    let app = App::new();
    let deploy = app.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_status(app.revision_id, S::Fetching).await;
    stage.machine.engine_is_away(false);
    stage
        .until("it is ready", |stage| {
            stage.heartbeat().filter(|said| said.ready)
        })
        .await;
    stage.until_finished(&deploy).await;
    // Begun again, an attempt says once more what it builds from; the orchestrator takes the facts
    // and records no second step.
    let mut told = stage.words(app.revision_id);
    told.dedup_by(|again, before| *again == S::Building && *before == S::Building);
    assert_eq!(
        told,
        [
            S::Fetching,
            S::Building,
            S::Starting,
            S::Verifying,
            S::Running
        ]
    );
}

#[tokio::test]
async fn a_reader_gets_lines_until_it_goes_away() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let stream = StreamId::new();
    stage.send(&[&app.work(&stage, follow(stream, 10))]).await;
    let line = stage
        .until("a line", |stage| stage.service_lines().first().cloned())
        .await;
    assert!(
        line.seq == 1 && line.source.is_some() && line.text.starts_with("line 1 of"),
        "{line:?}"
    );
    stage
        .send(&[&app.work(&stage, WorkAction::UnfollowLogs { stream })])
        .await;
    App {
        fresh: vec![5000],
        ..App::new()
    }
    .runs(&stage)
    .await;
    assert_eq!(stage.service_lines().len(), 1);
}

fn follow(stream: StreamId, tail: u32) -> WorkAction {
    WorkAction::FollowLogs {
        stream,
        service: None,
        tail,
        lease_seconds: 30,
    }
}

#[tokio::test]
async fn a_reader_gets_what_is_printed_at_each_start_and_nothing_twice() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let container = stage.machine.containers()[0].facts.id.clone();
    for tail in [10, 0] {
        let before = stage.service_lines().len();
        let work = app.work(&stage, follow(StreamId::new(), tail));
        let followed = follows(&stage);
        stage.send(&[&work]).await;
        let is_read = |stage: &Stage| (follows(stage) > followed).then_some(());
        stage.until("it is read", is_read).await;
        if tail > 0 {
            let first = |stage: &Stage| (!stage.service_lines().is_empty()).then_some(());
            stage.until("what was printed before", first).await;
        }
        for _ in 0..2 {
            let followed = follows(&stage);
            stage.machine.stop_by_hand(&container);
            // Its log has ended, and was read on in vain.
            let again = |stage: &Stage| (follows(stage) > followed).then_some(());
            stage.until("it is read again", again).await;
            stage.machine.start(&container).await.unwrap();
        }
        let expected = if tail > 0 { 3 } else { 4 };
        let told = |stage: &Stage| (stage.service_lines().len() >= before + expected).then_some(());
        stage.until("its lines", told).await;
    }
    let mut texts: Vec<String> = stage
        .service_lines()
        .iter()
        .map(|line| line.text.replace(&container, "it"))
        .collect();
    texts.sort();
    // Two readers from the second pair of starts on.
    let expected = [1, 2, 3, 4, 4, 5, 5].map(|number| format!("line {number} of it"));
    assert_eq!(texts, expected);
}

fn follows(stage: &Stage) -> usize {
    let steps = stage.machine.steps();
    steps.iter().filter(|step| *step == "follow").count()
}

#[tokio::test]
async fn a_reader_who_comes_while_the_engine_is_away_gets_the_past_later() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    stage.machine.engine_is_away(true);
    let work = app.work(&stage, follow(StreamId::new(), 10));
    stage.send(&[&work]).await;
    let tried = |stage: &Stage| (follows(stage) > 0).then_some(());
    stage.until("it was tried", tried).await;
    stage.machine.engine_is_away(false);
    let line = |stage: &Stage| stage.service_lines().first().cloned();
    let line = stage.until("a line", line).await;
    assert!(line.text.starts_with("line 1 of"), "{line:?}");
}
