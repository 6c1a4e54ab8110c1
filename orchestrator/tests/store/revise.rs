//! New revisions, going back, and giving up.

use crate::stage::{Stage, commit, good_way, image_deployment, report};
use shared::id::{DeploymentId, RevisionId};
use shared::message::WorkAction;
use shared::source::{ImageDigest, Source};
use shared::status::{ApplicationStatus as S, FailureReason, RevisionCause};
use std::time::Duration;

both! {
    async fn a_newer_request_supersedes_one_that_no_node_has(stage: Stage) {
        let deployment = stage.create("demo").await;
        let first = stage.latest(deployment.id).await;
        let view = stage.commands.redeploy(deployment.id, Some("v2".to_owned())).await.unwrap();
        let second = stage.latest(deployment.id).await;
        assert_eq!((second.number, second.cause, second.status), (2, RevisionCause::Redeploy, S::Requested));
        assert_eq!(stage.revision(first.id).await.status, S::Superseded);
        let Source::GitApp(git) = view.source else { panic!() };
        assert_eq!(git.git_ref.unwrap().as_str(), "v2");
    }

    async fn a_newer_request_waits_until_the_node_gave_up_the_older(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.commands.redeploy(deployment.id, None).await.unwrap();
        stage.commands.redeploy(deployment.id, None).await.unwrap();
        let cancel = stage.published().await;
        assert_eq!(cancel.len(), 1, "asked once");
        assert_eq!((&cancel[0].action, cancel[0].revision_id), (&WorkAction::Cancel, deploy.revision_id));
        assert!(stage.revision(deploy.revision_id).await.status_detail.unwrap().starts_with("being cancelled"));
        assert_eq!(stage.dispatch_all(&node).await, 0);
        stage.store.reports_apply(&[report(&deploy, &node, 1, S::Cancelled)]).await.unwrap();
        assert_eq!(stage.revision(deploy.revision_id).await.status, S::Superseded);
        assert_eq!(stage.dispatch_all(&node).await, 1);
        assert_eq!(stage.published().await[0].revision, 3);
    }

    async fn cancelling_what_no_node_has_ends_it_at_once(stage: Stage) {
        let deployment = stage.create("demo").await;
        let revision = stage.latest(deployment.id).await;
        let cancelled = stage.commands.cancel_revision(revision.id).await.unwrap();
        assert_eq!((cancelled.status, cancelled.failure_reason), (S::Cancelled, Some(FailureReason::Cancelled)));
        let error = stage.commands.cancel_revision(revision.id).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT");
        assert!(error.to_string().contains("CANCELLED"), "{error}");
        assert_eq!(stage.commands.cancel_revision(RevisionId::new()).await.unwrap_err().code(), "NOT_FOUND");
    }

    async fn cancelling_what_is_under_way_asks_the_node(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.store.reports_apply(&[report(&deploy, &node, 1, S::Building)]).await.unwrap();
        let asked = stage.commands.cancel_revision(deploy.revision_id).await.unwrap();
        assert_eq!(asked.status, S::Building);
        stage.commands.cancel_revision(deploy.revision_id).await.unwrap();
        assert_eq!(stage.published().await.len(), 1, "asked once");
        assert!(stage.store.cancels_settle(Duration::from_secs(10)).await.unwrap().is_empty(), "it may still answer");
        stage.store.reports_apply(&[report(&deploy, &node, 2, S::Cancelled)]).await.unwrap();
        assert_eq!(stage.deployment(deployment.id).await.status.status, S::Cancelled);
    }

    async fn a_node_that_cannot_answer_is_not_waited_for(stage: Stage) {
        let node = stage.node("n1").await;
        for (name, lost) in [("silent", false), ("lost", true)] {
            let deployment = stage.create(name).await;
            stage.dispatch_all(&node).await;
            let deploy = stage.published().await.remove(0);
            stage.commands.cancel_revision(deploy.revision_id).await.unwrap();
            if lost {
                stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
            } else {
                stage.published().await;
            }
            let patience = if lost { Duration::from_secs(3600) } else { Duration::ZERO };
            let steps = stage.store.cancels_settle(patience).await.unwrap();
            assert_eq!(steps.iter().map(|step| (step.epoch, step.status)).collect::<Vec<_>>(), [(2, S::Cancelled)], "{name}");
            let late = stage.store.reports_apply(&good_way(&deploy, &node)).await.unwrap();
            assert_eq!((late.steps.len(), late.ignored.stale_epoch), (0, 5));
            assert_eq!(stage.deployment(deployment.id).await.status.status, S::Cancelled);
            assert!(stage.store.cancels_settle(Duration::ZERO).await.unwrap().is_empty());
        }
        stage.node("n1").await;
        let left: Vec<_> = stage.published().await.into_iter().map(|work| work.action).collect();
        assert_eq!(left, [WorkAction::Cancel], "the lost node still has to clean up; the deploy is not sent again");
    }

    async fn giving_up_does_not_keep_what_is_destroyed_from_its_end(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.commands.cancel_revision(deploy.revision_id).await.unwrap();
        stage.commands.destroy(deployment.id, false).await.unwrap();
        stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
        assert!(stage.store.cancels_settle(Duration::ZERO).await.unwrap().is_empty());
        stage.node("n1").await;
        let left = stage.published().await;
        let destroy = left.iter().find(|work| matches!(work.action, WorkAction::Destroy { .. })).unwrap();
        stage.store.reports_apply(&[report(destroy, &node, 1, S::Destroyed)]).await.unwrap();
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), None);
    }

    async fn what_outlived_its_cancel_runs_on(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.commands.cancel_revision(deploy.revision_id).await.unwrap();
        stage.store.reports_apply(&good_way(&deploy, &node)).await.unwrap();
        assert_eq!(stage.deployment(deployment.id).await.status.status, S::Running);
        assert_eq!(stage.published().await.iter().map(|work| &work.action).collect::<Vec<_>>(), [&WorkAction::Cancel]);
        // Restarted, it is on its way again; the old request to give it up means nothing then.
        stage.store.reports_apply(&[report(&deploy, &node, 6, S::Starting)]).await.unwrap();
        stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
        assert!(stage.store.cancels_settle(Duration::ZERO).await.unwrap().is_empty());
    }

    async fn going_back_runs_the_very_commit_of_the_last_good_one(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, _) = stage.running("demo", &node).await;
        assert_eq!(stage.commands.rollback(id, None).await.unwrap_err().code(), "CONFLICT");
        stage.commands.redeploy(id, None).await.unwrap();
        let second = stage.run_latest(id, &node).await;
        stage.commands.redeploy(id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let third = stage.published().await.remove(0);
        stage.store.reports_apply(&[report(&third, &node, 1, S::Failed)]).await.unwrap();
        stage.commands.rollback(id, None).await.unwrap();
        let back = stage.latest(id).await;
        assert_eq!((back.number, back.cause), (4, RevisionCause::Rollback));
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        assert_eq!(crate::stage::deploy_work(&work).commit, Some(commit('1')), "before {second}, which serves");
        stage.store.reports_apply(&good_way(&work, &node)).await.unwrap();
        stage.commands.rollback(id, Some(2)).await.unwrap();
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        assert_eq!(crate::stage::deploy_work(&work).commit, Some(commit('2')));
    }

    async fn going_back_leaves_the_version_and_not_only_the_revision(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, _) = stage.running("demo", &node).await;
        for is_moved in [false, true] {
            // Twice the same commit, as after a move or a redeploy of what did not change.
            stage.commands.redeploy(id, None).await.unwrap();
            stage.dispatch_all(&node).await;
            let work = stage.published().await.remove(0);
            let mut reports = good_way(&work, &node);
            if is_moved {
                reports[1].facts.commit = Some(commit('2'));
            }
            stage.store.reports_apply(&reports).await.unwrap();
        }
        assert_eq!(stage.latest(id).await.source_version, Some(commit('2').to_string()));
        stage.commands.rollback(id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        assert_eq!(crate::stage::deploy_work(&work).commit, Some(commit('1')));
    }

    async fn there_must_be_something_to_go_back_to(stage: Stage) {
        let deployment = stage.create("demo").await;
        let code = async |to| stage.commands.rollback(deployment.id, to).await.unwrap_err().code();
        assert_eq!(code(Some(1)).await, "CONFLICT", "it never got as far as a commit");
        assert_eq!(code(Some(7)).await, "NOT_FOUND");
        assert_eq!(code(Some(-1)).await, "NOT_FOUND");
        assert_eq!(code(None).await, "CONFLICT");
        assert_eq!(stage.commands.rollback(DeploymentId::new(), None).await.unwrap_err().code(), "NOT_FOUND");
    }

    async fn going_back_to_an_image_names_its_digest(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.commands.create(image_deployment("demo", "nginx:1")).await.unwrap();
        let error = stage.commands.redeploy(deployment.id, Some("main".to_owned())).await.unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT");
        for digit in ["a", "b"] {
            stage.dispatch_all(&node).await;
            let work = stage.published().await.remove(0);
            let mut reports = good_way(&work, &node);
            (reports[1].facts.commit, reports[1].facts.image_digest) = (None, Some(ImageDigest::parse(&format!("sha256:{}", digit.repeat(64))).unwrap()));
            stage.store.reports_apply(&reports).await.unwrap();
            if digit == "a" {
                stage.commands.redeploy(deployment.id, None).await.unwrap();
            }
        }
        stage.commands.rollback(deployment.id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        let Source::Image(image) = &crate::stage::deploy_work(&work).source else { panic!() };
        assert_eq!(image.image.as_str(), format!("nginx:1@sha256:{}", "a".repeat(64)));
        let Source::Image(own) = stage.deployment(deployment.id).await.source else { panic!() };
        assert_eq!(own.image.as_str(), "nginx:1", "the deployment still follows its tag");
    }
}
