//! Work requests on their way to a node's journal.

use crate::stage::{LEASE, Stage};
use shared::message::{WorkReceipt, WorkRefused};
use shared::name::NodeName;
use std::time::Duration;

both! {
    async fn what_a_node_has_taken_is_not_sent_again(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let (token, work) = stage.store.work_publishable(10, LEASE, LEASE).await.unwrap();
        assert_eq!((work.len(), work[0].node.as_str(), work[0].attempts), (1, "n1", 0));
        assert!(stage.store.work_publishable(10, LEASE, LEASE).await.unwrap().1.is_empty(), "claimed");
        let id = work[0].request.id;
        stage.store.work_published(token, &[id]).await.unwrap();
        assert!(stage.store.work_publishable(10, LEASE, LEASE).await.unwrap().1.is_empty(), "published a moment ago");
        let (token, again) = stage.store.work_publishable(10, LEASE, Duration::ZERO).await.unwrap();
        assert_eq!((again[0].request.id, again[0].attempts), (id, 1));
        stage.store.work_published(token, &[id]).await.unwrap();
        let stranger = WorkReceipt { node: NodeName::parse("n2").unwrap(), work_id: id };
        stage.work_accepted(stranger).await;
        assert_eq!(stage.store.work_publishable(10, Duration::ZERO, Duration::ZERO).await.unwrap().1.len(), 1);
        stage.work_accepted(WorkReceipt { node: node.name, work_id: id }).await;
        assert!(stage.store.work_publishable(10, LEASE, Duration::ZERO).await.unwrap().1.is_empty());
    }

    async fn what_could_not_be_published_is_tried_again_at_once(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let (token, work) = stage.store.work_publishable(10, LEASE, LEASE).await.unwrap();
        stage.store.work_unpublished(token, &[work[0].request.id]).await.unwrap();
        let (late, again) = stage.store.work_publishable(10, Duration::ZERO, LEASE).await.unwrap();
        assert_eq!((again.len(), again[0].attempts), (1, 0));
        let (_, third) = stage.store.work_publishable(10, LEASE, LEASE).await.unwrap();
        assert_eq!(third.len(), 1);
        stage.store.work_published(late, &[work[0].request.id]).await.unwrap();
        stage.tamper("UPDATE work_requests SET claimed_until = NULL").await;
        assert_eq!(stage.store.work_publishable(10, LEASE, LEASE).await.unwrap().1.len(), 1, "a lost claim marks nothing");
    }

    async fn a_new_orchestrator_publishes_what_nobody_took(stage: Stage) {
        let node = stage.node("n1").await;
        for name in ["a", "b", "c"] {
            stage.create(name).await;
        }
        stage.dispatch_all(&node).await;
        let work = stage.published().await;
        let receipt = |index: usize| WorkReceipt { node: node.name.clone(), work_id: work[index].id };
        stage.work_accepted(receipt(0)).await;
        stage.work_finished(receipt(1)).await;
        assert_eq!(stage.store.work_republish().await.unwrap(), 1);
        let again = stage.published().await;
        assert_eq!(again.iter().map(|work| work.id).collect::<Vec<_>>(), [work[2].id]);
        let refused = WorkRefused { node: node.name.clone(), work_id: work[2].id, reason: "of an older\0 epoch".to_owned() };
        stage.work_refused(refused).await;
        assert_eq!(stage.store.work_republish().await.unwrap(), 0);
    }

    async fn what_is_for_a_lost_node_waits_for_it(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        stage.dispatch_all(&node).await;
        stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
        assert!(stage.published().await.is_empty());
        stage.node("n1").await;
        assert_eq!(stage.published().await.len(), 1);
    }
}
