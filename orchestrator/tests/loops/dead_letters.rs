//! Messages that nobody can handle end among the dead letters; everybody else goes on.

use crate::fleet::{Fleet, until};
use crate::node::leased_port;
use orchestrator::query::Page;
use orchestrator::view::DeadLetterView;
use shared::bus::conformance::{next, publish};
use shared::bus::{Address, DELIVERY_LIMIT, Subscription};
use shared::id::DeadLetterId;
use shared::message::{BODY_LIMIT, NodeReport, TelemetryTopic, WorkItem, decode, encode};
use shared::status::ApplicationStatus as S;

async fn letters(fleet: &Fleet) -> Vec<DeadLetterView> {
    let queries = fleet.orchestrator().queries();
    let page = queries.dead_letters_page(&Page::default()).await.unwrap();
    page.edges.into_iter().map(|edge| edge.node).collect()
}

async fn until_kept(fleet: &Fleet, count: usize) -> Vec<DeadLetterView> {
    until("they are kept", async || {
        letters(fleet).await.len() == count
    })
    .await;
    letters(fleet).await
}

everywhere! {
    async fn poison_is_kept_with_its_reason_and_stops_nobody(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        node.send(b"nonsense\0".to_vec()).await;
        node.send(vec![b' '; BODY_LIMIT + 1]).await;
        node.send(b"{\"v\":99,\"items\":[]}".to_vec()).await;
        node.deploy(&work).await;
        fleet.until_status(work.revision_id, S::Running).await;
        let mut found = until_kept(fleet, 3).await;
        found.sort_by_key(|letter| letter.size);
        assert!(found.iter().all(|letter| letter.queue == "deployment" && letter.deliveries == Some(1)), "{found:#?}");
        assert!(found[0].reason.contains("not a batch") && !found[0].is_text, "{found:#?}");
        assert!(found[1].reason.contains("version 99") && found[1].is_whole, "{found:#?}");
        assert!(found[2].reason.contains("more than") && !found[2].is_whole, "{found:#?}");

        let dead_letters = fleet.orchestrator().dead_letters();
        let refused = dead_letters.retry(found[2].id).await.unwrap_err();
        assert_eq!(refused.code(), "CONFLICT", "{refused}");
        // Still nonsense: it dies again, as another one.
        dead_letters.retry(found[0].id).await.unwrap();
        until("it died again", async || {
            let now = letters(fleet).await;
            now.len() == 3 && now.iter().all(|letter| letter.id != found[0].id)
        })
        .await;
        for letter in letters(fleet).await {
            dead_letters.drop(letter.id).await.unwrap();
        }
        assert!(letters(fleet).await.is_empty());
        for gone in [found[1].id, DeadLetterId::new()] {
            assert_eq!(dead_letters.drop(gone).await.unwrap_err().code(), "NOT_FOUND");
            assert_eq!(dead_letters.retry(gone).await.unwrap_err().code(), "NOT_FOUND");
        }
    }

    async fn a_report_that_cannot_be_recorded_does_not_bury_its_batch(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.running("other", &mut node).await;
        let (mut work, mut batch) = (Vec::new(), Vec::new());
        for name in ["demo", "well"] {
            fleet.create(name).await;
            work.push(node.next_work().await);
        }
        for work in &work {
            batch.extend(node.whole_way(work));
        }
        // A port has one holder: the report that names this one too is refused for good.
        let port = leased_port(&work[0]).port;
        fleet.tamper(&format!("UPDATE port_leases SET port = {port}")).await;
        node.say(&batch).await;
        fleet.until_status(work[1].revision_id, S::Running).await;
        let found = until_kept(fleet, 1).await.remove(0);
        let bodies = fleet.orchestrator().queries().dead_letter_bodies(&[found.id]).await.unwrap();
        let kept: Vec<NodeReport> = decode(bodies[&found.id].as_bytes()).unwrap();
        assert!(
            matches!(&kept[..], [NodeReport::Status(report)] if report.status == S::Running && report.revision_id == work[0].revision_id),
            "{kept:?}"
        );
        assert_eq!(fleet.revision(work[0].revision_id).await.status, S::Verifying);

        fleet.tamper(&format!("UPDATE port_leases SET port = 2999 WHERE port = {port}")).await;
        fleet.orchestrator().dead_letters().retry(found.id).await.unwrap();
        fleet.until_status(work[0].revision_id, S::Running).await;
        assert!(letters(fleet).await.is_empty());
    }

    async fn an_item_of_an_unknown_kind_does_not_bury_its_batch(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        let mut batch: serde_json::Value = serde_json::from_slice(&encode(&node.whole_way(&work))).unwrap();
        let newer = serde_json::json!({ "type": "of a newer release", "n": 1 });
        batch["items"].as_array_mut().unwrap().insert(2, newer.clone());
        node.send(batch.to_string().into_bytes()).await;
        fleet.until_status(work.revision_id, S::Running).await;
        let found = until_kept(fleet, 1).await.remove(0);
        let bodies = fleet.orchestrator().queries().dead_letter_bodies(&[found.id]).await.unwrap();
        let kept: serde_json::Value = serde_json::from_str(&bodies[&found.id]).unwrap();
        assert_eq!(kept["items"], serde_json::json!([newer]));
    }

    async fn work_that_is_well_returns_once_and_is_then_kept(fleet: &mut Fleet) {
        let bus = fleet.orchestrator_bus();
        let name = "n1".parse().unwrap();
        bus.declare_work_queue(&name).await.unwrap();
        let mut queue = fleet.node_bus(&name).consume(Subscription::Work(name.clone()), 4).await.unwrap();
        publish(&*bus, Address::Work(name), &encode::<WorkItem>(&[])).await;
        for _ in 0..2 * DELIVERY_LIMIT {
            assert!(letters(fleet).await.is_empty());
            next(&mut queue).await.requeue().await;
        }
        let found = until_kept(fleet, 1).await.remove(0);
        assert_eq!((&*found.queue, found.deliveries), ("work.n1", Some(DELIVERY_LIMIT)));
        assert_eq!(found.node, Some("n1".parse().unwrap()));
        // By hand it comes back again.
        fleet.orchestrator().dead_letters().retry(found.id).await.unwrap();
        assert!(next(&mut queue).await.ack().await);
        assert!(letters(fleet).await.is_empty());
    }

    async fn work_for_a_node_that_is_gone_is_kept(fleet: &mut Fleet) {
        let bus = fleet.orchestrator_bus();
        let name = "n1".parse().unwrap();
        bus.declare_work_queue(&name).await.unwrap();
        let mut queue = fleet.node_bus(&name).consume(Subscription::Work(name.clone()), 4).await.unwrap();
        publish(&*bus, Address::Work(name.clone()), b"nonsense").await;
        next(&mut queue).await.dead("not work").await;
        let found = until_kept(fleet, 1).await.remove(0);
        assert_eq!(found.reason, "not work");
        bus.delete_work_queue(&name).await.unwrap();
        let refused = fleet.orchestrator().dead_letters().retry(found.id).await.unwrap_err();
        assert!(refused.code() == "CONFLICT" && refused.to_string().contains("work.n1"), "{refused}");
        assert_eq!(letters(fleet).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_in_passing_is_kept_once_for_all_who_heard_it() {
    let play = async |fleet: &mut Fleet| {
        fleet.add_orchestrator().await;
        let node = fleet.node("n1").await;
        let bus = fleet.node_bus(&node.name);
        let address = Address::Telemetry(TelemetryTopic::Heartbeat);
        publish(&*bus, address.clone(), b"no heartbeat").await;
        let found = until_kept(fleet, 1).await.remove(0);
        assert_eq!(found.queue, "telemetry");
        let retried = fleet.orchestrator().dead_letters().retry(found.id).await;
        assert_eq!(retried.unwrap_err().code(), "CONFLICT");
        // Both have heard it before they hear the next, of which there is also one letter.
        publish(&*bus, address, b"nor this").await;
        assert_eq!(until_kept(fleet, 2).await.len(), 2);
    };
    Fleet::on_postgres_and_rabbitmq().await.run(play).await;
}
