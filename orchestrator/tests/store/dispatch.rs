//! Claims and dispatch.

use crate::stage::{Stage, deploy_work, good_way, report};
use orchestrator::store::Assignment;
use shared::status::ApplicationStatus as S;
use std::collections::HashSet;
use std::time::Duration;

both! {
    async fn two_claimers_never_get_the_same_revision(stage: Stage) {
        for n in 0..40 {
            stage.create(&format!("app-{n}")).await;
        }
        let second = stage.second_store().await;
        let all = stage.waiting().await;
        assert!(all.len() == 40 && all.is_sorted());
        let mine = stage.store.claim(&all[..25]).await.unwrap();
        assert_eq!((mine.revisions.len(), mine.passed_over), (25, 0));
        // SQLite has one writer: there the other one waits until this one is done.
        if !stage.is_sqlite() {
            let yours = second.claim(&all).await.unwrap();
            let ids: Vec<_> = yours.revisions.iter().map(|revision| revision.id).collect();
            assert_eq!((ids, yours.passed_over), (all[25..].to_vec(), 25));
        }
        drop(mine);
        // The database lets go of a dropped claim's rows a moment later.
        let rest = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let rest = second.claim(&all).await.unwrap();
                if rest.passed_over == 0 {
                    break rest.revisions.len();
                }
                drop(rest);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("a claim that was dropped holds nothing");
        assert_eq!(rest, 40, "a claim that was dropped changed nothing");
    }

    async fn what_was_given_away_meanwhile_is_no_longer_claimed(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        let waiting = stage.waiting().await;
        assert_eq!(stage.dispatch_all(&node).await, 1);
        let late = stage.store.claim(&waiting).await.unwrap();
        assert_eq!((late.revisions.len(), late.passed_over), (0, 1));
        let assignment = Assignment { revision_id: waiting[0], node_id: node.id };
        assert!(late.give(&[assignment]).await.unwrap().steps.is_empty());
        assert_eq!(stage.published().await.len(), 1);
    }

    async fn what_cannot_be_placed_says_why_and_stays(stage: Stage) {
        let deployment = stage.create("demo").await;
        let waiting = stage.waiting().await;
        let why = [(waiting[0], "no node has joined yet".to_owned())];
        stage.store.say_why(&why).await.unwrap();
        let revision = stage.latest(deployment.id).await;
        assert_eq!((revision.status, revision.status_detail.as_deref()), (S::Requested, Some("no node has joined yet")));
        assert_eq!(stage.path(revision.id).await, [S::Requested]);
        let again = stage.store.claim(&waiting).await.unwrap();
        assert_eq!(again.revisions[0].status_detail.as_deref(), Some("no node has joined yet"));
        assert!(stage.store.requested(Some(waiting[0]), 10).await.unwrap().is_empty());
    }

    async fn why_it_waits_is_not_said_of_what_is_given_away_or_in_hand(stage: Stage) {
        let node = stage.node("n1").await;
        let given = stage.create("given").await;
        assert_eq!(stage.dispatch_all(&node).await, 1);
        let held = stage.create("held").await;
        let free = stage.create("free").await;
        let ids: Vec<_> = stage.waiting().await;
        let given_id = stage.latest(given.id).await.id;
        let why: Vec<_> = [given_id, ids[0], ids[1]].map(|id| (id, "no room".to_owned())).into();
        let claim = if stage.is_sqlite() { None } else { Some(stage.store.claim(&ids[..1]).await.unwrap()) };
        stage.store.say_why(&why).await.unwrap();
        drop(claim);
        let said = async |id| stage.latest(id).await.status_detail;
        assert_eq!(said(given.id).await, None);
        assert_eq!(said(free.id).await.as_deref(), Some("no room"));
        assert_eq!(said(held.id).await.as_deref(), stage.is_sqlite().then_some("no room"));
    }

    async fn dispatch_places_reserves_and_orders_in_one(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        assert_eq!(stage.dispatch_all(&node).await, 1);
        let revision = stage.latest(deployment.id).await;
        assert_eq!((revision.status, revision.epoch, revision.node_id), (S::Initialized, 1, Some(node.id)));
        assert_eq!(stage.path(revision.id).await, [S::Requested, S::Initialized]);
        assert_eq!(stage.deployment(deployment.id).await.node_id, Some(node.id));
        let work = stage.published().await;
        assert_eq!((work[0].epoch, work[0].revision, work[0].last_report_seq), (1, 1, 0));
        assert_eq!(work[0].store, stage.store.incarnation());
        let ports = &deploy_work(&work[0]).ports;
        assert_eq!((ports.held.len(), ports.fresh.len()), (0, 8));
        assert!(ports.fresh.iter().all(|port| (3000..3100).contains(port)));
        assert!(stage.queries.ports_of(&[deployment.id]).await.unwrap().is_empty(), "reserved ones are not shown");
    }

    async fn hundreds_are_dispatched_in_one_batch_again_and_again(stage: Stage) {
        let node = stage.node("n1").await;
        for n in 0..260 {
            stage.create(&format!("app-{n}")).await;
        }
        let mut held: Vec<Vec<u16>> = Vec::new();
        for round in 0..2 {
            assert_eq!(stage.dispatch_all(&node).await, 260);
            let work = stage.published().await;
            let fresh: Vec<u16> = work.iter().flat_map(|work| deploy_work(work).ports.fresh.clone()).collect();
            assert_eq!((fresh.len(), fresh.iter().collect::<HashSet<_>>().len()), (260 * 8, 260 * 8));
            assert!(work.iter().all(|work| deploy_work(work).ports.held.len() == round));
            let reports: Vec<_> = work.iter().flat_map(|work| good_way(work, &node)).collect();
            assert_eq!(stage.store.reports_apply(&reports).await.unwrap().steps.len(), 260 * (5 + round));
            let ids: Vec<_> = work.iter().map(|work| work.deployment_id).collect();
            let ports = stage.queries.ports_of(&ids).await.unwrap();
            held.push(ids.iter().map(|id| ports[id][0].port).collect());
            if round == 0 {
                for id in ids {
                    stage.commands.redeploy(id, None).await.unwrap();
                }
            }
        }
        assert_eq!(held[0].iter().collect::<HashSet<_>>(), held[1].iter().collect::<HashSet<_>>(), "the same ports");
    }

    async fn one_action_at_a_time(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let work = stage.published().await;
        stage.commands.redeploy(deployment.id, None).await.unwrap();
        assert_eq!(stage.dispatch_all(&node).await, 0, "the first revision is still under way");
        stage.store.reports_apply(&[report(&work[0], &node, 1, S::Cancelled)]).await.unwrap();
        assert_eq!(stage.dispatch_all(&node).await, 1);
    }
}
