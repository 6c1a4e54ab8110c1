//! The whole picture: what is stale goes, what is missing is said and taken up again, what was lost
//! on the way is said again.

use super::app::App;
use super::support::Stage;
use node::runtime::Runtime as _;
use node::runtime::simulated::Step;
use shared::bus::{Address, Bus as _};
use shared::message::{
    AdoptWork, NodeReport, StatusReport, WorkAction, WorkItem, WorkRequest, encode,
};
use shared::status::{ApplicationStatus as S, FailureReason};

fn placed(given: i64) -> App {
    App {
        given,
        ..App::new()
    }
}

fn is_empty(stage: &Stage) -> bool {
    stage.machine.containers().is_empty()
        && stage.machine.routes().is_empty()
        && stage.machine.images().is_empty()
}

fn refusal(stage: &Stage, request: &WorkRequest) -> Option<String> {
    stage.reports().into_iter().find_map(|report| match report {
        NodeReport::Refused(refused) if refused.work_id == request.id => Some(refused.reason),
        _ => None,
    })
}

/// The order to take up what a report said of a revision.
fn adopt(stage: &Stage, app: &App, running: &StatusReport, given: i64) -> WorkRequest {
    let facts = running.facts.clone();
    let work = AdoptWork {
        commit: facts.commit,
        image_digest: facts.image_digest,
        content_hash: facts.content_hash.unwrap(),
        spec: *facts.spec.unwrap(),
        ports: facts.ports.unwrap(),
        stopped: false,
        given,
    };
    WorkRequest {
        last_report_seq: running.seq,
        ..app.work(stage, WorkAction::Adopt(Box::new(work)))
    }
}

/// A node that lost its journal while this ran, not started again, and what it had said of it.
async fn without_journal(app: &App) -> (Stage, StatusReport) {
    let mut stage = Stage::new().await;
    app.runs(&stage).await;
    let running = stage.until_status(app.revision_id, S::Running).await;
    stage.lose_journal().await;
    (stage, running)
}

#[tokio::test]
async fn what_a_picture_does_not_name_goes_but_what_came_later_stays() {
    let stage = Stage::new().await;
    let (old, new) = (
        placed(1),
        App {
            fresh: vec![4000],
            ..placed(2)
        },
    );
    old.runs(&stage).await;
    new.runs(&stage).await;
    stage.tell_and_wait(1, &[]).await;
    assert_eq!(stage.removed(old.deployment_id), [1]);
    assert_eq!(stage.removed(new.deployment_id), [0; 0]);
    let left = stage.machine.containers();
    assert!(
        left.len() == 1 && left[0].facts.deployment_id == new.deployment_id,
        "{left:?}"
    );
    assert_eq!(stage.machine.routes().len(), 1);
    stage.tell_and_wait(2, &[]).await;
    assert!(is_empty(&stage));
    assert_eq!(stage.removed(old.deployment_id), [1], "it is said once");
    // It may come back: it was not destroyed.
    let again = App {
        given: 3,
        ..old.next()
    };
    again.runs(&stage).await;
}

#[tokio::test]
async fn an_older_attempt_that_serves_is_taken_down_before_the_newer_one_begins() {
    let stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    let newer = App {
        epoch: 2,
        given: 2,
        ..app.clone()
    };
    let body = encode(&[
        stage.picture(2, &[newer.assigned(S::Initialized)]),
        WorkItem::from(newer.deploy(&stage)),
    ]);
    let to = Address::Work(stage.settings.name.clone());
    stage.tell(2, &[newer.assigned(S::Initialized)]).await;
    stage.bus.publish(to, body).await.unwrap();
    let running = |stage: &Stage| {
        stage
            .statuses(app.revision_id)
            .into_iter()
            .find(|report| report.epoch == 2 && report.status == S::Running)
    };
    stage.until("the newer one runs", running).await;
    let steps = stage.machine.steps();
    let at = |step: &str| steps.iter().position(|done| done == step);
    assert!(
        at("remove 1.1").unwrap() < at("create 1.2").unwrap(),
        "{steps:?}"
    );
    assert_eq!(stage.machine.containers().len(), 1);
    assert!(stage.removed(app.deployment_id).is_empty());
}

#[tokio::test]
async fn stale_work_is_interrupted_and_dropped() {
    let stage = Stage::new().await;
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Hangs);
    let app = placed(1);
    let (deploy, later) = (app.deploy(&stage), app.next().deploy(&stage));
    stage.send(&[&deploy, &later]).await;
    stage.until_status(app.revision_id, S::Building).await;
    stage.tell_and_wait(1, &[]).await;
    stage.until_finished(&deploy).await;
    stage.until_finished(&later).await;
    assert_eq!(stage.words(app.revision_id), [S::Fetching, S::Building]);
    assert_eq!(
        stage
            .machine
            .steps()
            .iter()
            .filter(|step| *step == "fetch")
            .count(),
        1
    );
    assert_eq!(stage.removed(app.deployment_id), [1]);
    assert!(is_empty(&stage));
}

#[tokio::test]
async fn an_order_that_is_older_than_the_picture_is_refused() {
    let stage = Stage::new().await;
    let named = placed(4);
    stage
        .tell_and_wait(5, &[named.assigned(S::Initialized)])
        .await;
    let late = placed(3).deploy(&stage);
    stage.send(&[&late]).await;
    let reason = stage
        .until("it is refused", |stage| refusal(stage, &late))
        .await;
    assert!(reason.contains("not assigned to this node"), "{reason}");
    named.runs(&stage).await;
    placed(6).runs(&stage).await;
}

#[tokio::test]
async fn a_lost_journal_costs_no_container() {
    let mut stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    let running = stage.until_status(app.revision_id, S::Running).await;
    let (containers, routes) = (stage.machine.containers(), stage.machine.routes());
    stage.lose_journal().await;
    stage.start().await;
    stage.tell_and_wait(1, &[app.assigned(S::Running)]).await;
    assert_eq!(stage.missing(), [(app.revision_id, true)]);

    let adopt = adopt(&stage, &app, &running, 2);
    stage.does(&adopt).await;
    assert_eq!(stage.machine.containers(), containers);
    assert_eq!(stage.machine.routes(), routes);
    let said = stage.statuses(app.revision_id).pop().unwrap();
    assert_eq!((said.status, said.seq), (S::Running, running.seq + 1));
    assert_eq!(said.facts, running.facts);
    // It is watched, and a picture has nothing to say any more.
    stage.tell_and_wait(2, &[app.assigned(S::Running)]).await;
    assert_eq!(stage.missing().len(), 1);
    stage.machine.crash(&containers[0].facts.id, 1);
    stage.until_status(app.revision_id, S::Degraded).await;
}

#[tokio::test]
async fn what_stood_still_and_is_taken_up_to_run_says_that_it_starts() {
    let app = placed(1);
    let (mut stage, running) = without_journal(&app).await;
    let container = stage.machine.containers().remove(0).facts.id;
    let at_once = std::time::Duration::ZERO;
    stage.machine.stop(&container, at_once).await.unwrap();
    stage.start().await;
    let order = adopt(&stage, &app, &running, 2);
    stage.does(&order).await;
    assert!(stage.machine.containers()[0].state.running);
    let said: Vec<S> = stage
        .statuses(app.revision_id)
        .into_iter()
        .filter(|said| said.seq > running.seq)
        .map(|said| said.status)
        .collect();
    assert_eq!(said, [S::Starting, S::Running]);
}

#[tokio::test]
async fn an_order_to_take_up_what_was_replaced_meanwhile_changes_nothing() {
    let first = placed(1);
    let (mut stage, running) = without_journal(&first).await;
    stage.start().await;
    let second = App {
        given: 2,
        ..first.next()
    };
    second.runs(&stage).await;
    let only_the_second = |stage: &Stage| {
        let containers = stage.machine.containers();
        (containers.len() == 1 && containers[0].facts.attempt.revision == 2).then_some(containers)
    };
    let containers = stage.until("the first is gone", only_the_second).await;
    let late = adopt(&stage, &first, &running, 3);
    stage.does(&late).await;
    assert_eq!(stage.machine.containers(), containers);
}

#[tokio::test]
async fn a_cancel_that_came_too_late_for_a_lost_journal_removes_nothing() {
    let app = placed(1);
    let (mut stage, running) = without_journal(&app).await;
    let containers = stage.machine.containers();
    stage.start().await;
    let cancel = app.work(&stage, WorkAction::Cancel);
    stage.does(&cancel).await;
    let order = adopt(&stage, &app, &running, 2);
    stage.does(&order).await;
    assert_eq!(stage.machine.containers(), containers);
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Running));
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_adopts_goes_on() {
    let app = placed(1);
    let (mut stage, running) = without_journal(&app).await;
    let containers = stage.machine.containers();
    stage.start().await;
    stage.machine.engine_is_away(true);
    let adopt = adopt(&stage, &app, &running, 2);
    stage.send(&[&adopt]).await;
    stage.until_accepted(&adopt).await;
    stage.kill();
    stage.machine.engine_is_away(false);
    stage.start().await;
    stage.until_finished(&adopt).await;
    assert_eq!(stage.machine.containers(), containers);
    assert_eq!(stage.machine.routes().len(), 1);
}

#[tokio::test]
async fn a_node_stops_although_a_revision_waits_to_be_taken_up() {
    let app = placed(1);
    let (mut stage, running) = without_journal(&app).await;
    stage.start().await;
    stage.machine.engine_is_away(true);
    let adopt = adopt(&stage, &app, &running, 2);
    stage.send(&[&adopt]).await;
    stage.until_accepted(&adopt).await;
    stage.stop().await;
    stage.machine.engine_is_away(false);
    stage.start().await;
    stage.until_finished(&adopt).await;
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Running));
}

#[tokio::test]
async fn what_is_gone_is_made_again_from_its_image_or_refused() {
    let app = placed(1);
    let (mut stage, running) = without_journal(&app).await;
    let first = stage.machine.containers().remove(0).facts.id;
    stage.machine.remove(&first).await.unwrap();
    stage.start().await;
    stage.tell_and_wait(1, &[app.assigned(S::Running)]).await;
    assert_eq!(stage.missing(), [(app.revision_id, false)]);
    let order = adopt(&stage, &app, &running, 2);
    stage.does(&order).await;
    let made = stage.machine.containers().remove(0);
    assert!(made.state.running && made.facts.id != first, "{made:?}");

    stage.lose_journal().await;
    stage.machine.remove(&made.facts.id).await.unwrap();
    for image in stage.machine.images() {
        stage.machine.image_remove(&image).await.unwrap();
    }
    stage.start().await;
    let order = adopt(&stage, &app, &running, 3);
    stage.send(&[&order]).await;
    let reason = stage
        .until("it is refused", |stage| refusal(stage, &order))
        .await;
    assert!(reason.contains("so is its image"), "{reason}");
    assert!(stage.machine.containers().is_empty());
}

#[tokio::test]
async fn containers_that_nobody_knows_go_with_the_picture_and_not_before() {
    let mut stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    stage.lose_journal().await;
    stage.start().await;
    stage
        .until("it is ready", |stage| {
            stage.heartbeat().filter(|said| said.ready)
        })
        .await;
    assert_eq!(stage.machine.containers().len(), 1);
    stage.tell_and_wait(0, &[]).await;
    assert_eq!(stage.removed(app.deployment_id), [0]);
    assert!(is_empty(&stage));
}

#[tokio::test]
async fn a_removal_that_a_kill_interrupted_is_done_with_the_next_picture() {
    let mut stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    stage.machine.engine_is_away(true);
    stage.tell(1, &[]).await;
    let late = placed(1).deploy(&stage);
    stage.send(&[&late]).await;
    stage
        .until("the picture was taken in", |stage| refusal(stage, &late))
        .await;
    stage.kill();
    assert!(stage.removed(app.deployment_id).is_empty());
    stage.machine.engine_is_away(false);
    stage.start().await;
    stage.tell_and_wait(1, &[]).await;
    assert_eq!(stage.removed(app.deployment_id), [1]);
    assert!(is_empty(&stage));
}

#[tokio::test]
async fn what_was_leaving_is_not_brought_back_by_the_next_process() {
    let mut stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    stage
        .machine
        .behave(|behaviour| behaviour.refuses_purge = true);
    stage.tell(1, &[]).await;
    stage.until_step("purge").await;
    assert!(stage.machine.routes().is_empty());
    stage.kill();
    // Half of it was gone.
    let container = stage.machine.containers().remove(0).facts.id;
    stage.machine.remove(&container).await.unwrap();
    stage.start().await;
    // Its watch would have looked by the time that something else was deployed.
    App::new().runs(&stage).await;
    assert_eq!(stage.machine.routes().len(), 1);
    assert_eq!(stage.machine.containers().len(), 1);
    stage
        .machine
        .behave(|behaviour| behaviour.refuses_purge = false);
    stage.tell(2, &[]).await;
    stage
        .until("it is gone", |stage| {
            stage.removed(app.deployment_id).contains(&2).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_report_that_was_lost_is_said_again_above_every_number() {
    let stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    let before = stage.statuses(app.revision_id).len();
    stage.tell_and_wait(1, &[app.assigned(S::Running)]).await;
    assert_eq!(
        stage.statuses(app.revision_id).len(),
        before,
        "nothing is to be said"
    );
    let behind = shared::message::Assigned {
        last_report_seq: 30,
        ..app.assigned(S::Verifying)
    };
    stage.tell_and_wait(1, &[behind]).await;
    let again = stage.statuses(app.revision_id).pop().unwrap();
    assert_eq!((again.status, again.seq), (S::Running, 31));
    assert!(again.facts.ports.is_some());
}

#[tokio::test]
async fn a_failure_whose_report_was_lost_is_said_again_with_its_reason() {
    let mut stage = Stage::new().await;
    stage.machine.behave(|behaviour| {
        behaviour.build = Step::Fails(FailureReason::BuildFailed, "no such file".to_owned());
    });
    let app = placed(1);
    let deploy = app.deploy(&stage);
    stage.does(&deploy).await;
    stage.kill();
    stage.start().await;
    stage.tell_and_wait(1, &[app.assigned(S::Building)]).await;
    let mut failed = stage.statuses(app.revision_id);
    failed.retain(|report| report.status == S::Failed);
    // What was sent just before the kill may have been sent twice.
    failed.sort_by_key(|report| report.seq);
    failed.dedup_by_key(|report| report.seq);
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert_eq!(failed[1].failure_reason, Some(FailureReason::BuildFailed));
    assert!(failed[1].detail.as_ref().unwrap().contains("no such file"));
}

#[tokio::test]
async fn what_is_being_destroyed_is_left_to_its_order() {
    let stage = Stage::new().await;
    let app = placed(1);
    app.runs(&stage).await;
    let destroying = shared::message::Assigned {
        destroying: true,
        ..app.assigned(S::Initialized)
    };
    stage.tell_and_wait(1, &[destroying]).await;
    assert_eq!(stage.machine.containers().len(), 1);
    let destroy = app.work(&stage, WorkAction::Destroy { volumes: true });
    stage.send(&[&destroy]).await;
    stage.until_status(app.revision_id, S::Destroyed).await;
    assert!(stage.removed(app.deployment_id).is_empty());
}

#[tokio::test]
async fn what_is_held_is_said_by_the_next_process_at_once() {
    let mut stage = Stage::new().await;
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Hangs);
    let app = placed(1);
    let deploy = app.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_status(app.revision_id, S::Building).await;
    stage.kill();
    let before = stage.held().len();
    stage.start().await;
    stage
        .until("it is held", |stage| {
            stage.held()[before..].contains(&deploy.id).then_some(())
        })
        .await;
}
