//! Heartbeats and silence.

use crate::stage::{Stage, heartbeat};
use orchestrator::view::NodeView;
use shared::message::Reconciled;
use shared::status::NodeStatus;
use std::time::Duration;

both! {
    async fn the_first_heartbeat_registers(stage: Stage) {
        let applied = stage.store.heartbeats_apply(&[heartbeat("n1"), heartbeat("n2"), heartbeat("n1")]).await.unwrap();
        assert_eq!((applied.registered.len(), applied.changed.len()), (2, 2));
        let names: Vec<_> = stage.queries.nodes_all().await.unwrap().into_iter().map(|node| node.name.to_string()).collect();
        assert_eq!(names, ["n1", "n2"]);
        let again = stage.store.heartbeats_apply(&[heartbeat("n1")]).await.unwrap();
        assert!(again.registered.is_empty() && again.changed.len() == 1, "it was started again");
    }

    async fn only_news_is_told(stage: Stage) {
        let mut beat = heartbeat("n1");
        stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap();
        beat.at += chrono::TimeDelta::seconds(5);
        beat.load.memory_used_bytes = 12345;
        assert!(stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap().changed.is_empty());
        assert_eq!(stage.queries.node_by_name("n1").await.unwrap().unwrap().load.memory_used_bytes, 12345);
        (beat.ready, beat.detail) = (false, Some("the engine does not\0 answer".to_owned()));
        assert_eq!(stage.store.heartbeats_apply(std::slice::from_ref(&beat)).await.unwrap().changed.len(), 1);
        let node = stage.queries.node_by_name("n1").await.unwrap().unwrap();
        assert_eq!((node.status, node.detail.as_deref()), (NodeStatus::NotReady, Some("the engine does not\u{fffd} answer")));
    }

    async fn a_heartbeat_of_an_earlier_start_is_left_out(stage: Stage) {
        let beat = heartbeat("n1");
        let mut earlier = beat.clone();
        earlier.started_at -= chrono::TimeDelta::hours(2);
        earlier.ready = false;
        stage.store.heartbeats_apply(&[beat]).await.unwrap();
        stage.store.heartbeats_apply(std::slice::from_ref(&earlier)).await.unwrap();
        assert_eq!(stage.queries.node_by_name("n1").await.unwrap().unwrap().status, NodeStatus::Ready);
        // Unless the later one is silent: then the node started again with its clock set back.
        stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
        stage.store.heartbeats_apply(&[earlier]).await.unwrap();
        assert_eq!(stage.queries.node_by_name("n1").await.unwrap().unwrap().status, NodeStatus::NotReady);
    }

    async fn two_processes_of_one_name_are_noticed_and_the_one_that_stays_is_heard(stage: Stage) {
        let later = heartbeat("n1");
        let mut earlier = later.clone();
        earlier.started_at -= chrono::TimeDelta::hours(2);
        let beat = async |beat: &_| {
            stage.store.heartbeats_apply(std::slice::from_ref(beat)).await.unwrap();
            stage.queries.node_by_name("n1").await.unwrap().unwrap()
        };
        assert_eq!(beat(&later).await.status, NodeStatus::Ready);
        beat(&earlier).await;
        let both = beat(&later).await;
        assert_eq!(both.status, NodeStatus::NotReady);
        assert!(both.detail.unwrap().starts_with("two processes call themselves by this name"));
        // The later one ends: the earlier one is no more than heard again.
        stage.tamper("UPDATE nodes SET last_heartbeat_at = '2020-01-01T00:00:00+00:00'").await;
        beat(&earlier).await;
        assert!(stage.store.nodes_mark_lost(Duration::from_secs(20)).await.unwrap().is_empty());
        stage.tamper("UPDATE nodes SET rival_heard_at = '2020-01-01T00:00:00+00:00'").await;
        assert_eq!(beat(&earlier).await.status, NodeStatus::Ready);
    }

    async fn silence_is_loss_and_a_heartbeat_ends_it(stage: Stage) {
        let node = stage.node("n1").await;
        assert!(stage.store.nodes_mark_lost(Duration::from_secs(20)).await.unwrap().is_empty());
        stage.tamper("UPDATE nodes SET last_heartbeat_at = '2020-01-01T00:00:00+00:00'").await;
        assert_eq!(stage.store.nodes_mark_lost(Duration::from_secs(20)).await.unwrap(), [node.id]);
        assert!(stage.store.nodes_mark_lost(Duration::from_secs(20)).await.unwrap().is_empty(), "only once");
        let lost = stage.queries.node_by_id(node.id).await.unwrap().unwrap();
        assert_eq!((lost.status, lost.detail.as_deref()), (NodeStatus::Lost, Some("no heartbeat for 20 s")));
        let back = stage.node("n1").await;
        assert_eq!((back.id, back.status), (node.id, NodeStatus::NotReady));
        assert!(back.detail.unwrap().contains("back after it was lost"));
        let ready = bring_back(stage, "n1").await;
        assert_eq!((ready.id, ready.status, ready.detail), (node.id, NodeStatus::Ready, None));
    }

    async fn only_the_picture_of_now_makes_a_lost_node_ready(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        stage.dispatch_all(&node).await;
        stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
        let told = |store, as_of| Reconciled { node: node.name.clone(), store, as_of };
        let (here, elsewhere) = (stage.store.incarnation(), shared::id::StoreIncarnation::new());
        assert!(!stage.store.nodes_reconciled(&[told(here, 1)]).await.unwrap(), "a lost node is told when it is back");
        for (store, as_of, is_told_again) in [(elsewhere, 9, true), (here, 0, true), (here, 1, false)] {
            assert_eq!(stage.node("n1").await.status, NodeStatus::NotReady);
            assert_eq!(stage.store.nodes_reconciled(&[told(store, as_of)]).await.unwrap(), is_told_again);
        }
        assert_eq!(stage.node("n1").await.status, NodeStatus::Ready);
    }

    async fn a_removed_node_comes_back_by_its_heartbeat_and_compares(stage: Stage) {
        let node = stage.node("n1").await;
        stage.tamper("UPDATE nodes SET removed_at = '2020-01-01T00:00:00+00:00', status = 'LOST'").await;
        assert!(stage.store.nodes_for_placement().await.unwrap().is_empty());
        let back = stage.node("n1").await;
        assert_eq!((back.id, back.status), (node.id, NodeStatus::NotReady));
        assert_eq!(stage.store.nodes_for_placement().await.unwrap().len(), 1);
        assert_eq!(bring_back(stage, "n1").await.status, NodeStatus::Ready);
    }

    async fn a_thousand_heartbeats_are_a_few_statements(stage: Stage) {
        let beats: Vec<_> = (0..1000).map(|n| heartbeat(&format!("n{n}"))).collect();
        assert_eq!(stage.store.heartbeats_apply(&beats).await.unwrap().registered.len(), 1000);
        assert_eq!(stage.store.heartbeats_apply(&beats).await.unwrap().changed.len(), 0);
    }
}

/// Heartbeats again after a loss, and compares what it should have.
pub(crate) async fn bring_back(stage: &Stage, name: &str) -> NodeView {
    let back = stage.node(name).await;
    let picture = stage.store.assignments(&[back.id]).await.unwrap().remove(0);
    let reconciled = Reconciled {
        node: picture.node,
        store: picture.store,
        as_of: picture.as_of,
    };
    assert!(!stage.store.nodes_reconciled(&[reconciled]).await.unwrap());
    stage.node(name).await
}
