//! What people ask of nodes: cordoned, drained, removed.

use crate::stage::{Stage, git_deployment, good_way, report};
use orchestrator::command::CreateDeployment;
use orchestrator::view::NodeView;
use shared::id::NodeId;
use shared::status::{ApplicationStatus as S, FailureReason, NodeStatus};
use std::time::Duration;

async fn node(stage: &Stage, id: NodeId) -> NodeView {
    stage.queries.node_by_id(id).await.unwrap().unwrap()
}

/// Lets a node fall silent.
async fn lose(stage: &Stage, name: &str) {
    let sql = format!(
        "UPDATE nodes SET last_heartbeat_at = '2020-01-01T00:00:00+00:00' WHERE name = '{name}'"
    );
    stage.tamper(&sql).await;
    let silence = Duration::from_secs(20);
    assert_eq!(stage.store.nodes_mark_lost(silence).await.unwrap().len(), 1);
}

fn pinned(name: &str, node: &str) -> CreateDeployment {
    CreateDeployment {
        node: Some(node.to_owned()),
        ..git_deployment(name)
    }
}

both! {
    async fn a_cordon_is_set_and_lifted_and_asking_twice_is_fine(stage: Stage) {
        let id = stage.node("n1").await.id;
        for _ in 0..2 {
            let cordoned = stage.commands.cordon_node(id).await.unwrap();
            assert_eq!((cordoned.cordoned, cordoned.drain_until), (true, None));
            assert!(cordoned.detail.unwrap().contains("gets nothing new"));
        }
        // A heartbeat is no answer to that.
        assert!(stage.node("n1").await.cordoned);
        assert!(stage.store.nodes_for_placement().await.unwrap()[0].cordoned);
        for _ in 0..2 {
            let open = stage.commands.uncordon_node(id).await.unwrap();
            assert_eq!((open.cordoned, open.detail), (false, None));
        }
    }

    async fn a_drain_says_how_far_it_is_and_what_stays(stage: Stage) {
        let one = stage.node("n1").await;
        stage.running("free", &one).await;
        let held = stage.commands.create(pinned("held", "n1")).await.unwrap();
        stage.run_latest(held.id, &one).await;
        let draining = stage.commands.drain_node(one.id, 3600).await.unwrap();
        let first = draining.drain_until.unwrap();
        let drain = draining.drain.unwrap();
        assert_eq!((drain.left, drain.stays.len(), drain.is_over()), (2, 1, false));
        let detail = draining.detail.unwrap();
        assert!(detail.contains("2 left, 1 stays (`held`: it is pinned to it)"), "{detail}");
        // Once more: another deadline.
        let again = stage.commands.drain_node(one.id, 7200).await.unwrap();
        assert!(again.cordoned && again.drain_until.unwrap() > first);
        // What can be moved has gone: the rest stays, and nothing more is waited for.
        stage.tamper("UPDATE revisions SET status = 'SUPERSEDED' WHERE deployment_id = (SELECT id FROM deployments WHERE name = 'free')").await;
        let over = node(stage, one.id).await;
        assert!(over.drain.unwrap().is_over(), "{:?}", over.detail);
        // Past its deadline it stays cordoned.
        stage.tamper("UPDATE nodes SET drain_until = '2020-01-01T00:00:00+00:00'").await;
        let past = node(stage, one.id).await;
        assert!(past.cordoned && past.detail.unwrap().contains("its time to drain is over: 1 left"));
        let open = stage.commands.uncordon_node(one.id).await.unwrap();
        assert_eq!((open.cordoned, open.drain_until, open.drain, open.detail), (false, None, None, None));
    }

    async fn what_was_to_leave_a_node_that_is_open_again_stays(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, revision) = stage.running("demo", &node).await;
        stage.commands.drain_node(node.id, 3600).await.unwrap();
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 1);
        let waiting = stage.latest(id).await;
        assert_eq!(waiting.status, S::Requested, "there is no other node");
        stage.commands.uncordon_node(node.id).await.unwrap();
        assert_eq!(stage.revision(waiting.id).await.status, S::Cancelled);
        assert_eq!(stage.dispatch_all(&node).await, 0);
        assert_eq!(stage.deployment(id).await.active_revision_id, Some(revision));
    }

    async fn what_is_not_right_is_refused(stage: Stage) {
        let unknown = NodeId::new();
        let commands = &stage.commands;
        let errors = [
            commands.cordon_node(unknown).await,
            commands.uncordon_node(unknown).await,
            commands.drain_node(unknown, 1).await,
            commands.remove_node(unknown).await,
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().code(), "NOT_FOUND");
        }
        let id = stage.node("n1").await.id;
        for seconds in [0, -1, i32::MIN, 604_801, i32::MAX] {
            assert_eq!(commands.drain_node(id, seconds).await.unwrap_err().code(), "INVALID_INPUT");
        }
        assert_eq!(node(stage, id).await.drain_until, None);
        let refused = commands.remove_node(id).await.unwrap_err();
        assert_eq!(refused.code(), "CONFLICT");
        assert!(refused.to_string().contains("n1 is READY: stop its process first"), "{refused}");
        assert!(stage.queries.node_by_name("n1").await.unwrap().is_some());
    }

    async fn a_removed_node_takes_with_it_only_what_it_alone_had(stage: Stage) {
        let one = stage.node("n1").await;
        let (free, free_revision) = stage.running("free", &one).await;
        let (free_twin, free_twin_revision) = stage.running("twin", &one).await;
        let (other, other_revision) = stage.running("other", &one).await;
        let held = stage.commands.create(pinned("held", "n1")).await.unwrap();
        let held_revision = stage.run_latest(held.id, &one).await;
        let (stopped, stopped_revision) = stage.running("stopped", &one).await;
        stage.commands.stop(stopped, Vec::new()).await.unwrap();
        let stop = stage.published().await.remove(0);
        stage.store.reports_apply(&[report(&stop, &one, 6, S::Stopped)]).await.unwrap();
        let (going, going_revision) = stage.running("going", &one).await;
        stage.commands.destroy(going, false).await.unwrap();
        let open = stage.create("open").await.latest_revision_id.unwrap();
        stage.dispatch_all(&one).await;
        assert_eq!(stage.revision(open).await.status, S::Initialized);
        lose(stage, "n1").await;

        let removed = stage.commands.remove_node(one.id).await.unwrap();
        assert_eq!(removed.status, NodeStatus::Lost);
        assert_eq!(stage.queries.node_by_name("n1").await.unwrap(), None);
        assert!(stage.queries.nodes_all().await.unwrap().is_empty());
        assert!(stage.store.nodes_for_placement().await.unwrap().is_empty());
        assert_eq!(stage.store.nodes_removed(Duration::from_secs(60)).await.unwrap(), [one.name]);

        let serves = stage.revision(free_revision).await;
        assert!(serves.status.is_live(), "it is moved, and serves until then: {serves:?}");
        for id in [held_revision, stopped_revision] {
            let failed = stage.revision(id).await;
            assert_eq!((failed.status, failed.failure_reason), (S::Failed, Some(FailureReason::NodeLost)));
            assert!(failed.status_detail.unwrap().contains("n1 was removed"));
        }
        let services = stage.queries.services_of(&[held.id, stopped]).await.unwrap();
        assert!(services.values().all(Vec::is_empty), "{services:?}");
        assert_eq!(stage.revision(going_revision).await.status, S::Destroyed);
        assert_eq!(stage.queries.deployment_by_name("going").await.unwrap(), None, "the name is free");
        let again = stage.revision(open).await;
        assert_eq!((again.status, again.node_id), (S::Requested, None));
        for id in [free, held.id, stopped, going] {
            assert_eq!(stage.deployment(id).await.node_id, None);
            assert!(stage.queries.ports_of(&[id]).await.unwrap().is_empty());
        }
        let gone = stage.commands.remove_node(one.id).await.unwrap_err();
        assert_eq!(gone.code(), "NOT_FOUND");

        // It would be asked for of a node that nobody hears.
        let restart = stage.commands.restart(free, Vec::new()).await.unwrap_err();
        assert_eq!(restart.code(), "CONFLICT");
        assert!(restart.to_string().contains("node n1, where `free` ran, was removed"), "{restart}");

        // Nobody waits for what is destroyed there now.
        stage.commands.destroy(free_twin, false).await.unwrap();
        assert!(stage.queries.deployment_by_name("twin").await.unwrap().is_some());
        assert_eq!(stage.store.left_behind_settle().await.unwrap().len(), 1);
        assert!(stage.store.left_behind_settle().await.unwrap().is_empty());
        assert_eq!(stage.revision(free_twin_revision).await.status, S::Destroyed);
        assert_eq!(stage.queries.deployment_by_name("twin").await.unwrap(), None);

        // Nor for what is to be stopped instead of moved.
        stage.commands.stop(other, Vec::new()).await.unwrap();
        assert_eq!(stage.store.left_stopped_settle().await.unwrap().len(), 1);
        assert!(stage.store.left_stopped_settle().await.unwrap().is_empty());
        let failed = stage.revision(other_revision).await;
        assert_eq!((failed.status, failed.failure_reason), (S::Failed, Some(FailureReason::NodeLost)));

        // Another node takes over what can be elsewhere.
        let two = stage.node("n2").await;
        let moves = stage.store.tenants_move(None, 100).await.unwrap();
        assert_eq!(moves.made, 1, "{moves:?}");
        stage.dispatch_all(&two).await;
        let work = stage.published().await;
        for request in &work {
            stage.store.reports_apply(&good_way(request, &two)).await.unwrap();
        }
        assert_eq!(work.len(), 2);
        assert_eq!(stage.deployment(free).await.node_id, Some(two.id));
        assert_eq!(stage.revision(free_revision).await.status, S::Superseded);
        assert_eq!(stage.revision(open).await.status, S::Running);
    }
}
