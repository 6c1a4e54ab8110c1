//! Several orchestrators on one database, and one that is replaced.

use crate::fleet::{Fleet, until, within};
use crate::node::FakeNode;
use futures::StreamExt;
use shared::id::RevisionId;
use shared::status::ApplicationStatus as S;
use std::collections::{HashMap, HashSet};

const REQUESTS: usize = 100;

/// Takes work until `count` deployment actions went well; which revision was asked for how often.
async fn work_off(
    node: &mut FakeNode,
    asked: &std::sync::Mutex<HashMap<RevisionId, HashSet<shared::id::WorkId>>>,
) {
    loop {
        let work = node.next_request().await;
        asked
            .lock()
            .unwrap()
            .entry(work.revision_id)
            .or_default()
            .insert(work.id);
        assert_eq!(work.epoch, 1, "nothing is attempted twice");
        node.deploy(&work).await;
    }
}

async fn each_request_is_dispatched_once(fleet: &mut Fleet) {
    fleet.add_orchestrator().await;
    let (mut first, mut second) = (fleet.node("n1").await, fleet.node("n2").await);
    let asked = std::sync::Mutex::new(HashMap::new());
    let requests = async {
        let names: Vec<String> = (0..REQUESTS)
            .map(|number| format!("app-{number}"))
            .collect();
        let deployments =
            futures::future::join_all(names.iter().map(|name| fleet.create(name))).await;
        for deployment in deployments {
            let revision_id = deployment.latest_revision_id.unwrap();
            until("it runs", async || {
                fleet.revision(revision_id).await.status == S::Running
            })
            .await;
            assert_eq!(fleet.path(revision_id).await.len(), 7);
        }
    };
    tokio::select! {
        () = requests => {}
        () = work_off(&mut first, &asked) => {}
        () = work_off(&mut second, &asked) => {}
    }
    let asked = asked.into_inner().unwrap();
    assert_eq!(asked.len(), REQUESTS);
    assert!(
        asked.values().all(|work| work.len() == 1),
        "one work request each"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_orchestrators_share_the_work_on_postgres() {
    Fleet::on_postgres()
        .await
        .run(async |fleet| each_request_is_dispatched_once(fleet).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_orchestrators_share_the_work_on_postgres_and_rabbitmq() {
    Fleet::on_postgres_and_rabbitmq()
        .await
        .run(async |fleet| each_request_is_dispatched_once(fleet).await)
        .await;
}

everywhere! {
    async fn an_orchestrator_that_is_replaced_loses_nothing(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("taken").await;
        let taken = node.next_work().await;
        node.accept(&taken).await;
        fleet.create("sent").await;
        let sent = node.next_work().await;
        fleet.stop_and_replace().await;
        // What was sent and not taken is sent again, as the same work request.
        let again = node.next_request().await;
        assert_eq!(again, sent);
        node.deploy(&again).await;
        node.deploy(&taken).await;
        fleet.until_status(sent.revision_id, S::Running).await;
        fleet.until_status(taken.revision_id, S::Running).await;
        assert_eq!(fleet.path(taken.revision_id).await.len(), 7);
    }

    async fn a_step_is_heard_at_every_orchestrator(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let mut here = Box::pin(fleet.orchestrator().watch().status_events(None));
        fleet.add_orchestrator().await;
        // The one that was added is asked; whoever listens at the other hears of it.
        fleet.create("demo").await;
        let work = node.next_work().await;
        node.deploy(&work).await;
        let mut seen = Vec::new();
        while seen.last() != Some(&7) {
            seen.push(within("a step is heard", here.next()).await.unwrap().unwrap().seq);
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=7).collect::<Vec<_>>(), "each once");
    }
}
