//! Orders that come twice, late, out of place, or for something that is under way.

use super::app::App;
use super::support::Stage;
use node::runtime::simulated::Step;
use shared::id::StoreIncarnation;
use shared::message::{NodeReport, WorkAction, WorkItem, WorkRequest};
use shared::status::ApplicationStatus as S;

fn refusal(stage: &Stage, request: &WorkRequest) -> Option<String> {
    stage.reports().into_iter().find_map(|report| match report {
        NodeReport::Refused(refused) if refused.work_id == request.id => Some(refused.reason),
        _ => None,
    })
}

#[tokio::test]
async fn what_does_not_read_is_dead_and_stops_nothing() {
    let stage = Stage::new().await;
    let bodies: [&[u8]; 4] = [
        b"",
        b"{",
        b"{\"v\":1,\"items\":[{\"id\":7}]}",
        b"{\"v\":9,\"items\":[]}",
    ];
    for body in bodies {
        stage.send_bytes(body).await;
    }
    App::new().runs(&stage).await;
    let dead = stage
        .until("each is dead", |stage| {
            let dead = stage.bus.dead_letters();
            (dead.len() == bodies.len()).then_some(dead)
        })
        .await;
    let newer = dead.iter().find(|letter| letter.body == bodies[3]);
    assert!(newer.unwrap().reason.contains("version 9"), "{dead:?}");
}

#[tokio::test]
async fn an_item_that_does_not_read_buries_no_other_of_its_batch() {
    let stage = Stage::new().await;
    let app = App::new();
    let good = shared::message::encode(&[WorkItem::from(app.deploy(&stage))]);
    let mut batch: serde_json::Value = serde_json::from_slice(&good).unwrap();
    let items = batch["items"].as_array_mut().unwrap();
    let unknown = serde_json::json!({"item": "newer", "id": 7});
    items.insert(0, unknown.clone());
    items.push(serde_json::json!({"item": "request", "id": "broken"}));
    stage.send_bytes(batch.to_string().as_bytes()).await;
    stage.until_status(app.revision_id, S::Running).await;
    let letters = stage
        .until("the others are dead", |stage| {
            let letters = stage.bus.dead_letters();
            (!letters.is_empty()).then_some(letters)
        })
        .await;
    assert_eq!(letters.len(), 1);
    let kept: serde_json::Value = serde_json::from_slice(&letters[0].body).unwrap();
    assert_eq!(kept["items"].as_array().unwrap().len(), 2);
    assert_eq!(kept["items"][0], unknown);
    assert!(letters[0].reason.contains("newer"), "{letters:?}");
}

#[tokio::test]
async fn the_same_work_twice_is_done_once() {
    let stage = Stage::new().await;
    let app = App::new();
    let deploy = app.deploy(&stage);
    stage.send(&[&deploy, &deploy]).await;
    stage.until_finished(&deploy).await;
    stage.send(&[&deploy]).await;
    let accepted = |stage: &Stage| {
        let count = stage
            .reports()
            .iter()
            .filter(|report| matches!(report, NodeReport::Accepted(_)))
            .count();
        (count == 3).then_some(())
    };
    stage.until("each is accepted", accepted).await;
    assert_eq!(stage.statuses(app.revision_id).len(), 5);
    assert_eq!(stage.machine.builds(), 1);
}

#[tokio::test]
async fn an_older_attempt_is_refused() {
    let stage = Stage::new().await;
    let mut app = App::new();
    let old = app.deploy(&stage);
    app.epoch = 2;
    app.runs(&stage).await;
    stage.send(&[&old]).await;
    let reason = stage
        .until("it is refused", |stage| refusal(stage, &old))
        .await;
    assert!(
        reason.contains("attempt 1 is older than attempt 2"),
        "{reason}"
    );
    assert_eq!(stage.machine.containers().len(), 1);
}

#[tokio::test]
async fn a_newer_attempt_takes_the_place_of_the_one_under_way() {
    let stage = Stage::new().await;
    let mut app = App::new();
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Hangs);
    let old = app.deploy(&stage);
    stage.send(&[&old]).await;
    stage.until_status(app.revision_id, S::Building).await;
    stage
        .machine
        .behave(|behaviour| behaviour.build = Step::Passes);
    app.epoch = 2;
    app.runs(&stage).await;
    stage.until_finished(&old).await;
    let of_old = stage
        .statuses(app.revision_id)
        .into_iter()
        .filter(|report| report.epoch == 1);
    assert_eq!(
        of_old.map(|report| report.status).collect::<Vec<_>>(),
        [S::Fetching, S::Building]
    );
    assert_eq!(stage.machine.containers().len(), 1);
}

#[tokio::test]
async fn reports_go_on_above_what_the_orchestrator_has() {
    let stage = Stage::new().await;
    let app = App::new();
    let deploy = WorkRequest {
        last_report_seq: 7,
        ..app.deploy(&stage)
    };
    stage.does(&deploy).await;
    assert_eq!(
        stage
            .statuses(app.revision_id)
            .first()
            .map(|report| report.seq),
        Some(8)
    );
}

#[tokio::test]
async fn a_cancel_interrupts_at_once_and_leaves_nothing() {
    for hangs_at in ["fetch", "build"] {
        let stage = Stage::new().await;
        let app = App::new();
        stage.machine.behave(|behaviour| match hangs_at {
            "fetch" => behaviour.fetch = Step::Hangs,
            _ => behaviour.build = Step::Hangs,
        });
        stage.send(&[&app.deploy(&stage)]).await;
        stage.until_step(hangs_at).await;
        let cancel = app.work(&stage, WorkAction::Cancel);
        stage.send(&[&cancel]).await;
        stage.until_status(app.revision_id, S::Cancelled).await;
        stage.until_finished(&cancel).await;
        stage
            .until("its log ends", |stage| stage.log_ended(app.revision_id))
            .await;
        assert!(stage.machine.containers().is_empty());
    }
}

#[tokio::test]
async fn a_cancel_while_it_is_verified_removes_its_containers() {
    let stage = Stage::new().await;
    let app = App::new();
    stage.machine.behave(|behaviour| behaviour.answers = false);
    stage.send(&[&app.deploy(&stage)]).await;
    stage.until_status(app.revision_id, S::Verifying).await;
    stage.send(&[&app.work(&stage, WorkAction::Cancel)]).await;
    stage.until_status(app.revision_id, S::Cancelled).await;
    assert!(stage.machine.containers().is_empty() && stage.machine.routes().is_empty());
}

#[tokio::test]
async fn what_waits_for_a_slot_can_be_cancelled_and_stops_do_not_wait() {
    let stage = Stage::new().await;
    let running = App::new();
    running.runs(&stage).await;
    stage
        .machine
        .behave(|behaviour| behaviour.fetch = Step::Hangs);
    let (one, two, waiting) = (App::new(), App::new(), App::new());
    stage
        .send(&[&one.deploy(&stage), &two.deploy(&stage)])
        .await;
    stage.until_status(one.revision_id, S::Fetching).await;
    stage.until_status(two.revision_id, S::Fetching).await;
    stage.send(&[&waiting.deploy(&stage)]).await;
    stage
        .send(&[&running.work(&stage, WorkAction::Stop(Default::default()))])
        .await;
    stage.until_status(running.revision_id, S::Stopped).await;
    assert!(
        stage.statuses(waiting.revision_id).is_empty(),
        "both slots are taken"
    );
    let busy = stage
        .until("the load is said", |stage| {
            stage.heartbeat().filter(|said| said.load.busy_slots == 2)
        })
        .await;
    assert_eq!(busy.capacity.slots, 2);
    stage
        .send(&[&waiting.work(&stage, WorkAction::Cancel)])
        .await;
    stage.until_status(waiting.revision_id, S::Cancelled).await;
}

#[tokio::test]
async fn a_cancel_that_comes_too_late_changes_nothing() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let cancel = app.work(&stage, WorkAction::Cancel);
    stage.does(&cancel).await;
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Running));
    assert_eq!(stage.machine.containers().len(), 1);
}

#[tokio::test]
async fn a_destroy_interrupts_and_leaves_nothing() {
    let stage = Stage::new().await;
    let first = App::new();
    first.runs(&stage).await;
    let second = first.next();
    stage.machine.behave(|behaviour| {
        behaviour.content = "b".to_owned();
        behaviour.build = Step::Hangs;
    });
    let deploy = second.deploy(&stage);
    stage.send(&[&deploy]).await;
    stage.until_status(second.revision_id, S::Building).await;
    let destroy = second.work(&stage, WorkAction::Destroy { volumes: false });
    stage.send(&[&destroy]).await;
    stage.until_status(second.revision_id, S::Destroyed).await;
    stage.until_finished(&destroy).await;
    assert!(stage.machine.containers().is_empty() && stage.machine.images().is_empty());
    assert!(stage.machine.routes().is_empty());
    assert!(
        stage
            .machine
            .steps()
            .contains(&"forget repository".to_owned())
    );

    // What comes late does not bring it back.
    let late = first.deploy(&stage);
    stage.send(&[&late]).await;
    stage
        .until("it is refused", |stage| refusal(stage, &late))
        .await;
    // Who asks again has not heard the answer.
    stage.send(&[&destroy]).await;
    let is_said_again = |stage: &Stage| {
        let said = stage.words(second.revision_id);
        let times = said.iter().filter(|status| **status == S::Destroyed);
        (times.count() == 2).then_some(())
    };
    stage.until("it is said again", is_said_again).await;
}

#[tokio::test]
async fn what_comes_while_a_deployment_is_destroyed_does_not_outlive_it() {
    let stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    stage.machine.engine_is_away(true);
    let destroy = app.work(&stage, WorkAction::Destroy { volumes: false });
    let (late, cancel) = (
        app.next().deploy(&stage),
        app.work(&stage, WorkAction::Cancel),
    );
    stage.send(&[&destroy]).await;
    stage.send(&[&late, &cancel]).await;
    for order in [&late, &cancel] {
        let reason = stage
            .until("it is refused", |stage| refusal(stage, order))
            .await;
        assert_eq!(reason, "the deployment is being destroyed here");
    }
    stage.machine.engine_is_away(false);
    stage.until_finished(&destroy).await;
    assert!(stage.machine.containers().is_empty());
}

#[tokio::test]
async fn a_repository_is_kept_while_another_deployment_uses_it() {
    let stage = Stage::new().await;
    let (one, two) = (
        App::new(),
        App {
            fresh: vec![5000],
            ..App::new()
        },
    );
    one.runs(&stage).await;
    two.runs(&stage).await;
    let destroy = one.work(&stage, WorkAction::Destroy { volumes: false });
    stage.does(&destroy).await;
    assert!(
        !stage
            .machine
            .steps()
            .contains(&"forget repository".to_owned())
    );
    assert_eq!(
        stage.machine.routes().len(),
        1,
        "the other one is left alone"
    );
}

#[tokio::test]
async fn what_this_node_never_had_is_destroyed_too() {
    let stage = Stage::new().await;
    let app = App::new();
    for _ in 0..2 {
        let destroy = app.work(&stage, WorkAction::Destroy { volumes: true });
        stage.does(&destroy).await;
    }
    assert_eq!(stage.words(app.revision_id).first(), Some(&S::Destroyed));
}

#[tokio::test]
async fn a_store_that_was_replaced_is_told_what_runs() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    stage.store = StoreIncarnation::new();
    App {
        fresh: vec![5000],
        ..App::new()
    }
    .runs(&stage)
    .await;
    let afresh = |stage: &Stage| {
        (stage
            .words(app.revision_id)
            .iter()
            .filter(|status| **status == S::Running)
            .count()
            == 2)
            .then_some(())
    };
    stage.until("it is said again", afresh).await;
    let numbers: Vec<i32> = stage
        .statuses(app.revision_id)
        .iter()
        .map(|report| report.seq)
        .collect();
    assert!(
        numbers.is_sorted_by(|one, next| one < next),
        "a number that the backup has would be taken for a repetition: {numbers:?}"
    );
}

#[tokio::test]
async fn a_store_that_was_replaced_may_have_what_was_destroyed() {
    let mut stage = Stage::new().await;
    let app = App::new();
    app.runs(&stage).await;
    let destroy = app.work(&stage, WorkAction::Destroy { volumes: false });
    stage.does(&destroy).await;
    stage.store = StoreIncarnation::new();
    let again = app.deploy(&stage);
    stage.does(&again).await;
    assert_eq!(stage.words(app.revision_id).last(), Some(&S::Running));
}
