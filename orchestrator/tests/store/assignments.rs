//! The whole picture of a node, and what it says back of it.

use crate::moves::{give, lose, run, spec};
use crate::stage::{Stage, good_way, heartbeat, leased_port, report};
use orchestrator::view::NodeView;
use shared::id::NodeId;
use shared::message::{
    AdoptWork, DeploymentRemoved, RevisionMissing, WorkAction, WorkReceipt, WorkRefused,
    WorkRequest,
};
use shared::status::{ApplicationStatus as S, FailureReason};
use std::time::Duration;

async fn due(stage: &Stage) -> Vec<NodeId> {
    stage.store.assignments_claim(10, 1.0).await.unwrap()
}

/// Waits until a picture is due: some reasons make it so within a second.
async fn until_due(stage: &Stage) -> Vec<NodeId> {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1000 {
        look.tick().await;
        let due = due(stage).await;
        if !due.is_empty() {
            return due;
        }
    }
    panic!("no picture became due");
}

fn missing(work: &WorkRequest, node: &NodeView, adoptable: bool) -> RevisionMissing {
    RevisionMissing {
        node: node.name.clone(),
        deployment_id: work.deployment_id,
        revision_id: work.revision_id,
        epoch: work.epoch,
        adoptable,
    }
}

async fn finish(stage: &Stage, work: &WorkRequest, node: &NodeView) {
    let receipt = WorkReceipt {
        node: node.name.clone(),
        work_id: work.id,
    };
    stage.work_finished(receipt).await;
}

fn adopt_work(request: &WorkRequest) -> &AdoptWork {
    match &request.action {
        WorkAction::Adopt(work) => work,
        other => panic!("{other:?}"),
    }
}

both! {
    async fn a_picture_names_what_the_node_should_have(stage: Stage) {
        let (node, other) = (stage.node("n1").await, stage.node("n2").await);
        let runs = stage.create("runs").await.id;
        run(stage, runs, &node, false).await;
        let destroyed = stage.create("destroyed").await.id;
        run(stage, destroyed, &node, false).await;
        stage.commands.destroy(destroyed, false).await.unwrap();
        let elsewhere = stage.create("elsewhere").await.id;
        run(stage, elsewhere, &other, false).await;
        let failed = stage.create("failed").await.id;
        let request = give(stage, failed, &node).await;
        stage.store.reports_apply(&[report(&request, &node, 1, S::Failed)]).await.unwrap();
        stage.commands.redeploy(runs, None).await.unwrap();
        give(stage, runs, &node).await;
        stage.create("waits").await;
        let picture = stage.store.assignments(&[node.id]).await.unwrap().remove(0);
        assert_eq!((picture.store, &picture.node, picture.as_of), (stage.store.incarnation(), &node.name, 4));
        let named: Vec<_> = picture
            .revisions
            .iter()
            .map(|it| (it.deployment_name.as_str(), it.revision, it.epoch, it.last_report_seq, it.status, it.destroying))
            .collect();
        assert_eq!(named, [
            ("runs", 1, 1, 5, S::Running, false),
            ("destroyed", 1, 1, 5, S::Running, true),
            ("runs", 2, 1, 0, S::Initialized, false),
        ]);
        assert!(stage.store.assignments(&[]).await.unwrap().is_empty());
    }

    async fn what_failed_after_it_had_served_is_named_until_something_takes_its_place(stage: Stage) {
        let (node, other) = (stage.node("n1").await, stage.node("n2").await);
        let (id, revision) = stage.running("demo", &node).await;
        stage.commands.restart(id, Vec::new()).await.unwrap();
        let restart = stage.published().await.remove(0);
        let words = [(6, S::Starting), (7, S::Verifying), (8, S::Failed)];
        let reports = words.map(|(seq, status)| report(&restart, &node, seq, status));
        stage.store.reports_apply(&reports).await.unwrap();
        let named = async |stage: &Stage| -> Vec<(i32, S)> {
            let picture = stage.store.assignments(&[node.id]).await.unwrap().remove(0);
            picture.revisions.iter().map(|it| (it.revision, it.status)).collect()
        };
        assert_eq!(stage.revision(revision).await.status, S::Failed);
        assert_eq!(named(stage).await, [(1, S::Failed)]);
        assert_eq!(stage.queries.ports_of(&[id]).await.unwrap()[&id].len(), 1, "it keeps its port");
        stage.commands.redeploy(id, None).await.unwrap();
        give(stage, id, &other).await;
        assert_eq!(named(stage).await, [], "it is another node's now");
    }

    async fn a_node_is_told_when_it_comes_and_from_time_to_time(stage: Stage) {
        let mut beat = heartbeat("n1");
        let applied = stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap();
        assert_eq!(applied.due, 1);
        let node = stage.queries.node_by_name("n1").await.unwrap().unwrap();
        assert_eq!(due(stage).await, [node.id]);
        assert!(due(stage).await.is_empty(), "in a minute");
        assert_eq!(stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap().due, 0);
        assert!(due(stage).await.is_empty());
        beat.started_at += chrono::TimeDelta::minutes(1);
        assert_eq!(stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap().due, 1);
        assert_eq!(due(stage).await, [node.id], "it was started again");
        stage.tamper("UPDATE nodes SET assignments_due_at = '2020-01-01T00:00:00+00:00'").await;
        lose(stage, &node).await;
        assert!(due(stage).await.is_empty(), "nobody is there");
        assert_eq!(stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap().due, 1);
        assert_eq!(due(stage).await, [node.id], "it is back");
        stage.store.assignments_due_all(Duration::ZERO).await.unwrap();
        assert_eq!(due(stage).await, [node.id], "the broker was away");
    }

    async fn two_orchestrators_tell_each_node_once(stage: Stage) {
        for name in ["n1", "n2", "n3", "n4"] {
            stage.node(name).await;
        }
        let second = stage.second_store().await;
        let (here, there) = tokio::join!(stage.store.assignments_claim(3, 1.0), second.assignments_claim(3, 1.0));
        let mut told: Vec<_> = here.unwrap().into_iter().chain(there.unwrap()).chain(due(stage).await).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), 4);
    }

    async fn who_speaks_of_what_it_should_not_have_is_told(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let work = give(stage, id, &first).await;
        due(stage).await;
        let applied = stage.store.reports_apply(&[report(&work, &second, 1, S::Running)]).await.unwrap();
        assert_eq!((applied.ignored.other_node, applied.pictures_due), (1, 1));
        assert_eq!(until_due(stage).await, [second.id]);
        let mut stale = report(&work, &first, 1, S::Running);
        stale.epoch = 0;
        assert_eq!(stage.store.reports_apply(&[stale]).await.unwrap().pictures_due, 1);
        assert_eq!(until_due(stage).await, [first.id]);
    }

    async fn a_take_over_elsewhere_is_told_to_the_node_that_is_left(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let old = run(stage, id, &first, false).await;
        stage.commands.redeploy(id, None).await.unwrap();
        let new = give(stage, id, &second).await;
        due(stage).await;
        assert_eq!(stage.store.reports_apply(&good_way(&new, &second)).await.unwrap().pictures_due, 1);
        assert_eq!(until_due(stage).await, [first.id]);
        assert!(stage.store.assignments(&[first.id]).await.unwrap()[0].revisions.is_empty());
        // It has removed what it had: its ports are free. The other's are not.
        let ports = async || stage.queries.ports_of(&[id]).await.unwrap().remove(&id).unwrap_or_default();
        assert_eq!(ports().await.len(), 2);
        let removed = |node: &NodeView| DeploymentRemoved { node: node.name.clone(), deployment_id: id, as_of: 9 };
        stage.store.deployments_removed(&[removed(&first), removed(&second)]).await.unwrap();
        let left = ports().await;
        assert_eq!(left.iter().map(|it| (it.node_id, it.port)).collect::<Vec<_>>(), [(second.id, leased_port(&new).port)]);
        assert_eq!(old.revision, 1);
    }

    async fn what_a_node_has_no_record_of_is_taken_up_again(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let work = run(stage, id, &node, true).await;
        assert!(stage.published().await.is_empty());
        let lost = missing(&work, &node, true);
        assert_eq!(stage.store.revisions_missing(std::slice::from_ref(&lost)).await.unwrap().adopted, 0, "the action is not over");
        finish(stage, &work, &node).await;
        let taken = stage.store.revisions_missing(&[lost.clone(), lost.clone()]).await.unwrap();
        assert_eq!((taken.adopted, taken.steps.len()), (1, 0));
        assert_eq!(stage.store.revisions_missing(&[lost]).await.unwrap().adopted, 0, "asked once");
        let adopt = stage.published().await.remove(0);
        assert_eq!((adopt.epoch, adopt.last_report_seq), (1, 5));
        let adopted = adopt_work(&adopt);
        assert_eq!((&adopted.spec, adopted.stopped, adopted.given), (&spec(true), false, 2));
        assert_eq!(adopted.ports, [leased_port(&work)]);
        assert_eq!(adopted.content_hash, "1".repeat(64));
        assert!(adopted.commit.is_some() && adopted.image_digest.is_none());
        // It could not: it is deployed again.
        let refused = [WorkRefused { node: node.name.clone(), work_id: adopt.id, reason: "an image is gone".to_owned() }];
        stage.work_refused(refused[0].clone()).await;
        let steps = stage.store.work_refused_fence(&refused).await.unwrap().steps;
        assert_eq!(steps.iter().map(|step| step.status).collect::<Vec<_>>(), [S::Requested]);
        assert_eq!(give(stage, id, &node).await.epoch, 2);
    }

    async fn what_runs_on_ports_that_nobody_heard_of_is_given_out_again(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let work = run(stage, id, &node, true).await;
        finish(stage, &work, &node).await;
        // The report that named them was lost with the broker; taken up, it would run where nobody reaches it.
        stage.tamper("DELETE FROM port_leases").await;
        let taken = stage.store.revisions_missing(&[missing(&work, &node, true)]).await.unwrap();
        assert_eq!(taken.adopted, 0);
        assert_eq!(taken.steps.iter().map(|step| step.status).collect::<Vec<_>>(), [S::Requested]);
        assert_eq!(give(stage, id, &node).await.epoch, 2);
    }

    async fn what_is_gone_from_its_node_is_given_out_again(stage: Stage) {
        let (node, other) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let work = run(stage, id, &node, false).await;
        finish(stage, &work, &node).await;
        let mut old = missing(&work, &node, false);
        old.epoch = 0;
        assert!(stage.store.revisions_missing(&[old, missing(&work, &other, false)]).await.unwrap().steps.is_empty());
        let steps = stage.store.revisions_missing(&[missing(&work, &node, false)]).await.unwrap().steps;
        assert_eq!((steps.len(), steps[0].status), (1, S::Requested));
        assert_eq!(steps[0].detail.as_deref(), Some("node n1 has lost it; it is given out again"));
        // On its way like any other, so it can be given up.
        let again = give(stage, id, &node).await;
        assert_eq!(again.epoch, 2);
        stage.store.reports_apply(&good_way(&again, &node)).await.unwrap();
        assert_eq!(stage.revision(work.revision_id).await.status, S::Running);
    }

    async fn what_was_stopped_and_is_gone_is_not_started(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let work = run(stage, id, &node, false).await;
        finish(stage, &work, &node).await;
        stage.commands.stop(id, Vec::new()).await.unwrap();
        stage.store.reports_apply(&[report(&work, &node, 6, S::Stopped)]).await.unwrap();
        let steps = stage.store.revisions_missing(&[missing(&work, &node, false)]).await.unwrap().steps;
        assert_eq!((steps.len(), steps[0].status, steps[0].failure_reason), (1, S::Failed, Some(FailureReason::NodeLost)));
        assert!(steps[0].detail.as_deref().unwrap().contains("gone from node n1; redeploy it"));
    }

    async fn a_destroy_does_not_wait_for_a_lost_node_that_was_left(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        run(stage, id, &first, false).await;
        lose(stage, &first).await;
        stage.store.tenants_move(None, 10).await.unwrap();
        let new = run(stage, id, &second, false).await;
        finish(stage, &new, &second).await;
        stage.commands.destroy(id, false).await.unwrap();
        let orders = stage.published().await;
        assert_eq!(orders.iter().map(|work| work.revision).collect::<Vec<_>>(), [2]);
        stage.store.reports_apply(&[report(&new, &second, 6, S::Destroyed)]).await.unwrap();
        let deployment = stage.deployment(id).await;
        assert_eq!(deployment.status.status, S::Destroyed);
        assert!(stage.queries.ports_of(&[id]).await.unwrap().is_empty());
        stage.create("demo").await;
    }
}
