//! What a node is told that it should have, and what it says back of it.

use crate::fleet::{Fleet, until};
use shared::message::{DeploymentRemoved, NodeReport, RevisionMissing, WorkAction, WorkRefused};
use shared::status::{ApplicationStatus as S, NodeStatus, RevisionCause};

everywhere! {
    async fn a_node_is_told_when_it_comes_and_when_it_seems_to_have_another_picture(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let first = node.next_picture().await;
        assert_eq!((first.as_of, first.revisions.len()), (0, 0));
        let deployment = fleet.running("demo", &mut node).await;
        let revision_id = deployment.latest_revision_id.unwrap();
        // It speaks of an attempt that is over.
        let mut work = fleet.rerun(&mut node, &deployment).await;
        work.epoch = 0;
        node.say_status(&work, 1, S::Running).await;
        let mut picture = node.next_picture().await;
        while picture.as_of < 2 {
            picture = node.next_picture().await;
        }
        let named: Vec<_> = picture.revisions.iter().map(|it| (it.revision, it.status)).collect();
        assert_eq!(named, [(2, S::Running)]);
        assert_eq!(fleet.revision(revision_id).await.status, S::Superseded);
    }

    async fn what_a_node_has_lost_is_taken_up_or_deployed_again(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let id = fleet.create("demo").await.id;
        let work = node.next_work().await;
        let mut way = node.whole_way(&work);
        if let NodeReport::Status(fetched) = &mut way[2] {
            fetched.facts.spec = Some(Box::new(crate::node::spec()));
        }
        node.say(&way).await;
        fleet.until_status(work.revision_id, S::Running).await;
        let missing = RevisionMissing {
            node: node.name.clone(),
            deployment_id: id,
            revision_id: work.revision_id,
            epoch: 1,
            adoptable: true,
        };
        node.say(&[NodeReport::Missing(missing)]).await;
        let adopt = node.next_work().await;
        assert!(matches!(&adopt.action, WorkAction::Adopt(adopt) if adopt.given == 2 && adopt.ports.len() == 1));
        let refused = WorkRefused { node: node.name.clone(), work_id: adopt.id, reason: "nothing is there".to_owned() };
        node.say(&[NodeReport::Refused(refused)]).await;
        let again = node.next_work().await;
        assert_eq!((again.revision_id, again.epoch), (work.revision_id, 2));
        node.deploy(&again).await;
        fleet.until_status(work.revision_id, S::Running).await;
        assert_eq!(fleet.revision(work.revision_id).await.epoch, 2);
    }
}

/// Real seconds pass here, so it is played in one setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_had_is_elsewhere_when_it_is_back() {
    let play = async |fleet: &mut Fleet| {
        let mut first = fleet.node("n1").await;
        let deployment = fleet.running("demo", &mut first).await;
        let under_way = fleet.create("under-way").await;
        let begun = first.next_work().await;
        first.accept(&begun).await;
        let mut second = fleet.node("n2").await;
        drop(first);
        for _ in 0..2 {
            let work = second.next_work().await;
            assert_eq!(
                work.epoch,
                if work.deployment_id == deployment.id {
                    1
                } else {
                    2
                }
            );
            second.deploy(&work).await;
        }
        fleet.until_status(begun.revision_id, S::Running).await;
        let moved = fleet.latest(deployment.id).await;
        assert_eq!((moved.number, moved.cause), (2, RevisionCause::NodeLost));
        fleet.until_status(moved.id, S::Running).await;
        let old = deployment.active_revision_id.unwrap();
        assert_eq!(fleet.revision(old).await.status, S::Superseded);
        assert!(
            fleet.path(old).await.contains(&S::Degraded),
            "it was said that its node is lost"
        );
        // Back, it compares before it works: nothing is its any longer.
        let mut first = fleet.node("n1").await;
        assert!(first.next_picture().await.revisions.is_empty());
        let removed = [deployment.id, under_way.id].map(|deployment_id| {
            NodeReport::Removed(DeploymentRemoved {
                node: first.name.clone(),
                deployment_id,
                as_of: 2,
            })
        });
        first.say(&removed).await;
        until("its ports are free", async || {
            let queries = fleet.orchestrator().queries();
            let mut ports = queries.ports_of(&[deployment.id]).await.unwrap();
            ports
                .remove(&deployment.id)
                .is_some_and(|ports| ports.len() == 1)
        })
        .await;
        assert_eq!(fleet.node_status("n1").await, Some(NodeStatus::Ready));
    };
    Fleet::standalone().await.run(play).await;
}
