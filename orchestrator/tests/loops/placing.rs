//! Which node gets what, and when there is none.

use crate::fleet::{Fleet, git_deployment, until};
use shared::status::{ApplicationStatus as S, NodeStatus};
use std::collections::HashSet;
use std::time::Duration;

everywhere! {
    async fn a_revision_waits_for_a_node_and_says_so(fleet: &mut Fleet) {
        let deployment = fleet.create("demo").await;
        until("it says why it waits", async || {
            fleet.latest(deployment.id).await.status_detail.is_some_and(|detail| detail.contains("waiting for a node"))
        })
        .await;
        assert_eq!(fleet.latest(deployment.id).await.status, S::Requested);
        // A node that comes is enough.
        let mut node = fleet.node("n1").await;
        let work = node.next_work().await;
        assert_eq!(work.deployment_id, deployment.id);
        node.deploy(&work).await;
        fleet.until_status(work.revision_id, S::Running).await;
        assert_eq!(fleet.revision(work.revision_id).await.status_detail, None);
    }

    async fn work_goes_to_both_nodes_and_a_pinned_one_where_it_is_pinned(fleet: &mut Fleet) {
        let (mut first, mut second) = (fleet.node("n1").await, fleet.node("n2").await);
        let mut names = HashSet::new();
        for number in 0..4 {
            let mut input = git_deployment(&format!("pinned-{number}"));
            input.node = Some("n2".to_owned());
            names.insert(fleet.orchestrator().commands().create(input).await.unwrap().id);
        }
        for _ in 0..4 {
            assert!(names.remove(&second.next_work().await.deployment_id));
        }
        assert!(!first.has_new_work().await);
        let mut free = HashSet::new();
        for number in 0..8 {
            free.insert(fleet.create(&format!("free-{number}")).await.id);
        }
        while !free.is_empty() {
            let work = tokio::select! {
                work = first.next_work() => work,
                work = second.next_work() => work,
            };
            assert!(free.remove(&work.deployment_id));
        }
    }

    async fn work_that_nobody_took_is_sent_again(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_request().await;
        // Neither accepted nor refused: perhaps the node lost it before it was in its journal.
        let again = node.next_request().await;
        assert_eq!(work, again);
        node.deploy(&again).await;
        fleet.until_status(work.revision_id, S::Running).await;
    }
}

/// Real seconds pass here, so it is played in one setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_lost_and_may_come_back() {
    let play = async |fleet: &mut Fleet| {
        let node = fleet.node("n1").await;
        drop(node);
        until("it is lost", async || {
            fleet.node_status("n1").await == Some(NodeStatus::Lost)
        })
        .await;
        let deployment = fleet.create("demo").await;
        until("it says why it waits", async || {
            fleet
                .latest(deployment.id)
                .await
                .status_detail
                .is_some_and(|detail| detail.contains("n1 (LOST"))
        })
        .await;
        let mut node = fleet.node("n1").await;
        assert_eq!(node.next_work().await.deployment_id, deployment.id);
    };
    Fleet::standalone().await.run(play).await;
}

/// Only Postgres lets two hold rows at once. Whoever had a row in hand tells nobody when they let go of
/// it, and the next look at everything is up to five seconds away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_had_in_hand_is_soon_looked_at_again() {
    let play = async |fleet: &mut Fleet| {
        let mut node = fleet.node("n1").await;
        let queries = fleet.orchestrator().queries();
        let id = queries.node_by_name("n1").await.unwrap().unwrap().id;
        for round in 0..3 {
            let commands = fleet.orchestrator().commands();
            commands.cordon_node(id).await.unwrap();
            let held = fleet.create(&format!("held-{round}")).await;
            let lock = format!(
                "SELECT 1 FROM revisions WHERE deployment_id = '{}' FOR UPDATE",
                held.id
            );
            let hold = fleet.hold(&lock).await;
            commands.uncordon_node(id).await.unwrap();
            let free = fleet.create(&format!("free-{round}")).await;
            let work = node.next_work().await;
            assert_eq!(work.deployment_id, free.id, "the other is passed over");
            hold.rollback().await.unwrap();
            let soon = tokio::time::timeout(Duration::from_secs(3), node.next_work());
            assert_eq!(soon.await.unwrap().deployment_id, held.id);
        }
    };
    Fleet::on_postgres().await.run(play).await;
}
