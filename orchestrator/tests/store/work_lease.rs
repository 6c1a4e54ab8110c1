//! Leases of work: what nobody is at is given out again, a bounded number of times.

use crate::moves::{give, lose, run};
use crate::stage::{Stage, commit, deploy_work, good_way, image_deployment, report};
use orchestrator::view::NodeView;
use shared::message::{Holds, WorkReceipt, WorkRefused, WorkRequest};
use shared::source::{ImageDigest, Source};
use shared::status::{ApplicationStatus as S, FailureReason};

/// As if every lease had ended long ago.
async fn end_leases(stage: &Stage) {
    let ended = "UPDATE work_requests SET leased_until = '2020-01-01T00:00:00+00:00' WHERE leased_until IS NOT NULL";
    stage.tamper(ended).await;
}

async fn accept(stage: &Stage, node: &NodeView, work: &WorkRequest) {
    let receipt = WorkReceipt {
        node: node.name.clone(),
        work_id: work.id,
    };
    stage.work_accepted(receipt).await;
}

async fn expire(stage: &Stage) -> Vec<S> {
    let taken_back = stage.store.work_expire(false).await.unwrap();
    taken_back
        .steps
        .into_iter()
        .map(|step| step.status)
        .collect()
}

both! {
    async fn what_its_node_says_that_it_has_is_not_taken_back(stage: Stage) {
        let (node, other) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let work = give(stage, id, &node).await;
        accept(stage, &node, &work).await;
        assert!(expire(stage).await.is_empty(), "accepted a moment ago");
        end_leases(stage).await;
        stage.store.work_held(&[Holds { node: node.name.clone(), work: vec![work.id] }]).await.unwrap();
        assert!(expire(stage).await.is_empty(), "renewed");
        end_leases(stage).await;
        stage.store.work_held(&[Holds { node: other.name.clone(), work: vec![work.id] }]).await.unwrap();
        assert_eq!(expire(stage).await, [S::Requested], "another node cannot have it");
        assert!(expire(stage).await.is_empty(), "taken back once");
        let revision = stage.revision(work.revision_id).await;
        assert_eq!((revision.status, revision.node_id), (S::Requested, None));
        assert!(revision.status_detail.unwrap().contains("node n1 said nothing of it for 60 s"));
        // Whatever it still says of that attempt changes nothing.
        assert_eq!(stage.store.reports_apply(&[report(&work, &node, 1, S::Running)]).await.unwrap().ignored.other_node, 1);
        assert!(stage.published().await.is_empty(), "nor is the order sent again");
        let again = give(stage, id, &other).await;
        assert_eq!((again.revision_id, again.epoch), (work.revision_id, 2));
        assert_eq!(stage.store.reports_apply(&[report(&work, &node, 1, S::Running)]).await.unwrap().ignored.stale_epoch, 1);
    }

    async fn another_attempt_is_about_the_version_that_the_first_found(stage: Stage) {
        let node = stage.node("n1").await;
        let digest = ImageDigest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        stage.commands.create(image_deployment("image", "nginx:1")).await.unwrap();
        stage.create("git").await;
        stage.dispatch_all(&node).await;
        let reports: Vec<_> = stage
            .published()
            .await
            .iter()
            .flat_map(|work| {
                let mut reports = good_way(work, &node);
                if work.deployment_name.as_str() == "image" {
                    (reports[1].facts.commit, reports[1].facts.image_digest) = (None, Some(digest.clone()));
                }
                reports.truncate(2);
                reports
            })
            .collect();
        stage.store.reports_apply(&reports).await.unwrap();
        end_leases(stage).await;
        assert_eq!(expire(stage).await, [S::Requested, S::Requested]);
        stage.dispatch_all(&node).await;
        let again = stage.published().await;
        assert_eq!(again.len(), 2);
        for work in &again {
            let work = deploy_work(work);
            match &work.source {
                Source::Image(source) => assert_eq!(source.image.as_str(), format!("nginx:1@{digest}")),
                Source::GitApp(_) => assert_eq!(work.commit, Some(commit('1'))),
            }
        }
    }

    async fn what_a_node_never_takes_is_given_out_again(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        stage.dispatch_all(&node).await;
        end_leases(stage).await;
        assert!(expire(stage).await.is_empty(), "it was not even sent");
        stage.published().await;
        assert!(expire(stage).await.is_empty());
        end_leases(stage).await;
        assert_eq!(expire(stage).await, [S::Requested]);
        assert_eq!(give(stage, id, &node).await.epoch, 2);
    }

    async fn attempts_are_bounded_and_counted_anew_once_it_ran(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        for epoch in 1..=4 {
            assert_eq!(give(stage, id, &node).await.epoch, epoch);
            end_leases(stage).await;
            assert_eq!(expire(stage).await, [S::Requested]);
        }
        run(stage, id, &node, false).await;
        stage.commands.redeploy(id, None).await.unwrap();
        for _ in 1..=4 {
            give(stage, id, &node).await;
            end_leases(stage).await;
            assert_eq!(expire(stage).await, [S::Requested]);
        }
        give(stage, id, &node).await;
        end_leases(stage).await;
        assert_eq!(expire(stage).await, [S::Failed]);
        let failed = stage.latest(id).await;
        assert_eq!((failed.number, failed.failure_reason), (2, Some(FailureReason::NodeLost)));
        assert!(failed.status_detail.unwrap().starts_with("given up after 5 attempts: node n1 said nothing"));
        assert!(stage.store.assignments(&[node.id]).await.unwrap()[0].revisions.iter().all(|it| it.revision == 1));
    }

    async fn a_lost_node_is_not_waited_for(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let other = stage.create("other").await.id;
        stage.dispatch_all(&first).await;
        let kept = stage.published().await.into_iter().find(|work| work.deployment_id == other).unwrap();
        accept(stage, &first, &kept).await;
        // Not even sent yet, or long accepted: both.
        stage.tamper(&format!("UPDATE work_requests SET published_at = NULL, leased_until = NULL WHERE id <> '{}'", kept.id)).await;
        assert!(stage.store.work_expire(true).await.unwrap().steps.is_empty());
        lose(stage, &first).await;
        assert_eq!(stage.store.work_expire(true).await.unwrap().steps.len(), 2);
        assert!(stage.latest(id).await.status_detail.unwrap().contains("node n1 was lost"));
        assert_eq!(stage.dispatch_all(&first).await, 0, "nothing is given to a lost node");
        assert_eq!(stage.dispatch_all(&second).await, 2);
    }

    async fn while_nobody_listened_long_enough_only_lost_nodes_count(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        give(stage, id, &node).await;
        end_leases(stage).await;
        assert!(stage.store.work_expire(true).await.unwrap().steps.is_empty());
        assert_eq!(expire(stage).await, [S::Requested]);
    }

    async fn orders_about_what_runs_are_sent_again_as_they_are(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let deploy = run(stage, id, &node, false).await;
        stage.work_finished(WorkReceipt { node: node.name.clone(), work_id: deploy.id }).await;
        stage.commands.restart(id, Vec::new()).await.unwrap();
        let restart = stage.published().await.remove(0);
        accept(stage, &node, &restart).await;
        stage.store.reports_apply(&[report(&deploy, &node, 6, S::Starting)]).await.unwrap();
        end_leases(stage).await;
        let taken_back = stage.store.work_expire(false).await.unwrap();
        assert_eq!((taken_back.steps.len(), taken_back.sent_again), (0, 1));
        assert_eq!(stage.published().await, [restart]);
        assert_eq!(stage.revision(deploy.revision_id).await.status, S::Starting);
    }

    async fn what_is_to_be_given_up_is_not_begun_again(stage: Stage) {
        let node = stage.node("n1").await;
        let (given_up, replaced) = (stage.create("given-up").await.id, stage.create("replaced").await.id);
        let destroyed = stage.create("destroyed").await.id;
        stage.dispatch_all(&node).await;
        stage.published().await;
        stage.commands.cancel_revision(stage.latest(given_up).await.id).await.unwrap();
        let first = stage.latest(replaced).await.id;
        stage.commands.redeploy(replaced, None).await.unwrap();
        stage.commands.destroy(destroyed, false).await.unwrap();
        end_leases(stage).await;
        let mut ends = expire(stage).await;
        ends.sort_by_key(|status| status.as_str());
        assert_eq!(ends, [S::Cancelled, S::Superseded]);
        assert_eq!(stage.revision(first).await.status, S::Superseded);
        assert_eq!(stage.latest(destroyed).await.status, S::Initialized, "the order to destroy it sees to it");
    }

    async fn a_refused_deployment_action_is_given_out_again(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let work = give(stage, id, &node).await;
        let refused = [WorkRefused { node: node.name.clone(), work_id: work.id, reason: "of an older epoch".to_owned() }];
        assert!(stage.store.work_refused_fence(&refused).await.unwrap().steps.is_empty(), "not recorded yet");
        stage.work_refused(refused[0].clone()).await;
        let steps = stage.store.work_refused_fence(&refused).await.unwrap().steps;
        assert_eq!(steps.iter().map(|step| step.detail.as_deref().unwrap()).collect::<Vec<_>>(), [
            "node n1 refused it: of an older epoch; it is given out again"
        ]);
        assert!(stage.store.work_refused_fence(&refused).await.unwrap().steps.is_empty(), "delivered twice");
        assert_eq!(give(stage, id, &node).await.epoch, 2);
        assert!(stage.store.work_refused_fence(&refused).await.unwrap().steps.is_empty(), "an old one");
    }
}
