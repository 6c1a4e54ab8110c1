//! What people ask for, all the way to a node and back.

use crate::fleet::{until, within};
use crate::node::{deploy_work, leased_port};
use futures::StreamExt;
use shared::message::WorkAction;
use shared::status::{ApplicationStatus as S, DesiredState};

everywhere! {
    async fn a_deployment_is_followed_step_by_step(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let mut events = Box::pin(fleet.orchestrator().watch().status_events(None));
        let deployment = fleet.create("demo").await;
        let work = node.next_work().await;
        assert_eq!((work.deployment_id, work.revision, work.epoch), (deployment.id, 1, 1));
        assert_eq!(deploy_work(&work).ports.fresh.len(), 8);
        node.accept(&work).await;
        for step in node.steps(&work) {
            node.say(&[shared::message::NodeReport::Status(step)]).await;
        }
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(status, _)| *status != S::Running) {
            let event = within("an event comes", events.next()).await.unwrap().unwrap();
            seen.push((event.status, event.seq));
        }
        let way = [S::Requested, S::Initialized, S::Fetching, S::Building, S::Starting, S::Verifying, S::Running];
        assert_eq!(seen, way.into_iter().zip(1..).collect::<Vec<_>>());
        let deployment = fleet.deployment(deployment.id).await;
        assert_eq!(deployment.status.status, S::Running);
        assert_eq!(deployment.active_revision_id, Some(work.revision_id));
        assert_eq!(deployment.url, Some(format!("http://192.0.2.7:{}", leased_port(&work).port)));
    }

    async fn a_newer_revision_supersedes_the_one_that_runs(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let first = fleet.running("demo", &mut node).await;
        fleet.orchestrator().commands().redeploy(first.id, None).await.unwrap();
        let work = node.next_work().await;
        assert_eq!((work.revision, work.epoch), (2, 1));
        let held: Vec<_> = deploy_work(&work).ports.held.iter().map(|lease| lease.port).collect();
        assert_eq!(held.len(), 1, "the port that the deployment has is offered again");
        assert_eq!(fleet.deployment(first.id).await.status.status, S::Running, "the old one serves meanwhile");
        node.deploy(&work).await;
        fleet.until_status(work.revision_id, S::Running).await;
        fleet.until_status(first.active_revision_id.unwrap(), S::Superseded).await;
        let now = fleet.deployment(first.id).await;
        assert_eq!((now.active_revision_id, now.url), (Some(work.revision_id), first.url));
    }

    async fn only_one_revision_of_a_deployment_is_under_way(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let deployment = fleet.create("demo").await;
        let first = node.next_work().await;
        node.accept(&first).await;
        node.say_status(&first, 1, S::Fetching).await;
        fleet.orchestrator().commands().redeploy(deployment.id, None).await.unwrap();
        let cancel = node.next_work().await;
        assert_eq!((cancel.revision_id, &cancel.action), (first.revision_id, &WorkAction::Cancel));
        let latest = fleet.latest(deployment.id).await;
        assert_eq!((latest.number, latest.status), (2, S::Requested), "it waits for the older one");
        node.accept(&cancel).await;
        node.say_status(&first, 2, S::Cancelled).await;
        let second = node.next_work().await;
        assert_eq!(second.revision_id, latest.id);
        assert_eq!(fleet.revision(first.revision_id).await.status, S::Superseded);
        node.deploy(&second).await;
        fleet.until_status(second.revision_id, S::Running).await;
    }

    async fn a_revision_is_cancelled(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        node.accept(&work).await;
        node.say_status(&work, 1, S::Building).await;
        fleet.until_status(work.revision_id, S::Building).await;
        fleet.orchestrator().commands().cancel_revision(work.revision_id).await.unwrap();
        let cancel = node.next_work().await;
        assert_eq!((cancel.revision_id, cancel.epoch, &cancel.action), (work.revision_id, work.epoch, &WorkAction::Cancel));
        node.accept(&cancel).await;
        node.say_status(&work, 2, S::Cancelled).await;
        fleet.until_status(work.revision_id, S::Cancelled).await;
        let again = fleet.orchestrator().commands().cancel_revision(work.revision_id).await;
        assert_eq!(again.unwrap_err().code(), "CONFLICT");
    }

    async fn a_cancel_that_nobody_answers_is_settled_and_fenced(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        node.accept(&work).await;
        fleet.orchestrator().commands().cancel_revision(work.revision_id).await.unwrap();
        // The node never takes the cancel.
        fleet.until_status(work.revision_id, S::Cancelled).await;
        assert!(fleet.revision(work.revision_id).await.epoch > work.epoch);
        node.say_status(&work, 1, S::Running).await;
        assert_eq!(fleet.revision(work.revision_id).await.status, S::Cancelled, "it is of an older attempt");
    }

    async fn stop_and_start_reach_the_node(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let deployment = fleet.running("demo", &mut node).await;
        let revision_id = deployment.active_revision_id.unwrap();
        fleet.orchestrator().commands().stop(deployment.id, vec![]).await.unwrap();
        let stop = node.next_work().await;
        assert!(matches!(stop.action, WorkAction::Stop(_)), "{stop:?}");
        node.say_status(&stop, 1, S::Stopped).await;
        fleet.until_status(revision_id, S::Stopped).await;
        fleet.orchestrator().commands().start(deployment.id, vec![]).await.unwrap();
        let start = node.next_work().await;
        assert!(matches!(start.action, WorkAction::Start(_)), "{start:?}");
        for (status, seq) in [S::Starting, S::Verifying, S::Running].into_iter().zip(1..) {
            node.say_status(&start, seq, status).await;
        }
        fleet.until_status(revision_id, S::Running).await;
        let tail = fleet.path(revision_id).await.split_off(6);
        assert_eq!(tail, [S::Running, S::Stopped, S::Starting, S::Verifying, S::Running]);
    }

    async fn what_is_destroyed_leaves_nothing_and_frees_its_name(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let deployment = fleet.running("demo", &mut node).await;
        fleet.orchestrator().commands().destroy(deployment.id, true).await.unwrap();
        let work = node.next_work().await;
        assert_eq!(work.action, WorkAction::Destroy { volumes: true });
        node.say_status(&work, 1, S::Destroyed).await;
        fleet.until_status(deployment.active_revision_id.unwrap(), S::Destroyed).await;
        let gone = fleet.deployment(deployment.id).await;
        assert_eq!((gone.desired_state, gone.status.status), (DesiredState::Destroyed, S::Destroyed));
        let queries = fleet.orchestrator().queries();
        assert!(queries.ports_of(&[deployment.id]).await.unwrap().values().all(Vec::is_empty));
        let again = fleet.orchestrator().commands().destroy(deployment.id, true).await;
        assert_eq!(again.unwrap_err().code(), "CONFLICT");
        assert_ne!(fleet.create("demo").await.id, deployment.id);
        until("the new one goes to the node", async || fleet.latest(deployment.id).await.status == S::Destroyed).await;
    }
}
