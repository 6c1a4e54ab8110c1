//! Host ports that nodes may choose from.

use crate::stage::{Stage, deploy_work};
use sea_orm::{ConnectionTrait, Database};
use shared::message::WorkRequest;
use std::collections::HashSet;

both! {
    async fn each_deployment_gets_a_block_and_the_cursor_wraps(stage: Stage) {
        let node = stage.node("n1").await;
        stage.tamper("UPDATE nodes SET port_cursor = 65300").await;
        for n in 0..5 {
            stage.create(&format!("app-{n}")).await;
        }
        stage.dispatch_all(&node).await;
        stage.create("app-5").await;
        stage.dispatch_all(&node).await;
        let mut work: Vec<WorkRequest> = stage.published().await;
        work.sort_by_key(|work| work.deployment_name.clone());
        let blocks: Vec<u16> = work.iter().map(|work| deploy_work(work).ports.fresh[0] / 100 * 100).collect();
        assert_eq!(blocks, [65300, 65400, 3000, 3100, 3200, 3300]);
        let all: Vec<u16> = work.iter().flat_map(|work| deploy_work(work).ports.fresh.clone()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 48);
    }

    async fn full_blocks_are_skipped_however_many(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("full").await;
        // Blocks 3000 to 3499 are taken but for two ports.
        let rows: Vec<String> = (3000..3500).filter(|port| ![3007, 3250].contains(port)).map(|port| format!("({port})")).collect();
        stage
            .tamper(&format!(
                "INSERT INTO port_leases (node_id, port, deployment_id, state, created_at) SELECT n.id, v.column1, d.id, 'HELD', \
                 n.created_at FROM nodes n, deployments d, (VALUES {}) AS v",
                rows.join(",")
            ))
            .await;
        stage.create("demo").await;
        assert_eq!(stage.dispatch_all(&node).await, 2);
        let work = stage.published().await;
        let fresh: HashSet<u16> = work.iter().flat_map(|work| deploy_work(work).ports.fresh.clone()).collect();
        assert_eq!(fresh.len(), 16);
        assert!(fresh.contains(&3007) && fresh.contains(&3250));
        assert!(fresh.iter().all(|port| [3007, 3250].contains(port) || (3500..3700).contains(port)), "{fresh:?}");
        stage.deployment(deployment.id).await;
    }
}

/// Only Postgres has two writers at once. Were offers and leases read one after the other, a port that
/// changes from one to the other in between would be in neither, and be given away twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_whose_offer_becomes_a_lease_is_never_free() {
    let play = async |stage: &mut Stage| {
        let node = stage.node("n1").await;
        stage.create("first").await;
        stage.dispatch_all(&node).await;
        // Of the first block seven ports are free, and the one that is now offered, now leased.
        let leased: Vec<String> = (3000..3092).map(|port| format!("({port})")).collect();
        let lease = "INSERT INTO port_leases (node_id, port, deployment_id, state, created_at) \
                     SELECT n.id, v.column1, d.id, 'HELD', n.created_at FROM nodes n, (SELECT * FROM deployments WHERE name = 'first') d";
        stage
            .tamper(&format!("{lease}, (VALUES {}) AS v", leased.join(",")))
            .await;
        stage
            .tamper("UPDATE port_offers SET ports = '[3092]', low = 3092")
            .await;
        let to_lease =
            format!("DELETE FROM port_offers WHERE low = 3092; {lease}, (VALUES (3092)) AS v");
        let to_offer = "DELETE FROM port_leases WHERE port = 3092; INSERT INTO port_offers \
                        (revision_id, node_id, ports, low, wide, created_at) \
                        SELECT r.id, n.id, '[3092]', 3092, false, n.created_at FROM nodes n, \
                        (SELECT r.id FROM revisions r JOIN deployments d ON d.id = r.deployment_id WHERE d.name = 'first') r";
        let db = Database::connect(&stage.url).await.unwrap();
        let flips = tokio::spawn(async move {
            for statement in [to_lease.as_str(), to_offer].iter().cycle() {
                db.execute_unprepared(statement).await.unwrap();
            }
        });
        for round in 0..100 {
            stage.create(&format!("app-{round}")).await;
            assert_eq!(stage.dispatch_all(&node).await, 1);
            let work = stage.published().await.pop().unwrap();
            let fresh = &deploy_work(&work).ports.fresh;
            assert!(
                fresh.len() == 8 && !fresh.contains(&3092),
                "round {round}: {fresh:?}"
            );
            assert!(!flips.is_finished());
            stage.tamper("DELETE FROM port_offers WHERE low <> 3092; UPDATE nodes SET port_cursor = 3000").await;
        }
        flips.abort();
    };
    Stage::postgres().await.run(play).await;
}
