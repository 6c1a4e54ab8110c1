//! Applying what nodes report.

use crate::stage::{Stage, commit, good_way, leased_port, report};
use orchestrator::store::Ignored;
use orchestrator::view::NodeView;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use shared::id::RevisionId;
use shared::message::{StatusReport, WorkRequest};
use shared::name::ServiceName;
use shared::status::{ApplicationStatus as S, FailureReason};
use std::time::Duration;

/// A deployment that a node has just got.
async fn dispatched(stage: &Stage, name: &str, node: &NodeView) -> WorkRequest {
    stage.create(name).await;
    stage.dispatch_all(node).await;
    let mut work = stage.published().await;
    assert_eq!(work.len(), 1);
    work.remove(0)
}

const GOOD_WAY: [S; 7] = [
    S::Requested,
    S::Initialized,
    S::Fetching,
    S::Building,
    S::Starting,
    S::Verifying,
    S::Running,
];

/// A revision's history without the times, which a test cannot foresee.
async fn steps(stage: &Stage, id: RevisionId) -> Vec<(i32, S, Option<String>)> {
    stage
        .history(id)
        .await
        .into_iter()
        .map(|event| (event.seq, event.status, event.detail))
        .collect()
}

both! {
    async fn the_good_way_is_recorded_step_by_step(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let applied = stage.store.reports_apply(&good_way(&work, &node)).await.unwrap();
        assert_eq!(applied.steps.len(), 5);
        assert_eq!(applied.ignored, Ignored::default());
        let history = stage.history(work.revision_id).await;
        assert_eq!(history.iter().map(|event| event.status).collect::<Vec<_>>(), GOOD_WAY);
        assert!(history.iter().map(|event| event.seq).eq(1..=7));
        assert_eq!(history[2..], applied.steps);
        let revision = stage.revision(work.revision_id).await;
        assert_eq!(revision.source_version.as_deref(), Some(commit('1').as_str()));
        assert_eq!(revision.content_hash.as_deref(), Some("1".repeat(64).as_str()));
        let deployment = stage.deployment(work.deployment_id).await;
        assert_eq!((deployment.status.status, deployment.active_revision_id), (S::Running, Some(work.revision_id)));
        let port = leased_port(&work).port;
        assert_eq!(deployment.url, Some(format!("http://192.0.2.7:{port}")));
        let ports = stage.queries.ports_of(&[work.deployment_id]).await.unwrap().remove(&work.deployment_id).unwrap();
        assert_eq!(ports.iter().map(|lease| (lease.port, lease.container_port)).collect::<Vec<_>>(), [(port, 8000)]);
        let services = stage.queries.services_of(&[work.deployment_id]).await.unwrap().remove(&work.deployment_id).unwrap();
        assert_eq!((services.len(), services[0].name.clone(), services[0].status), (1, ServiceName::app(), S::Running));
    }

    async fn a_report_counts_once(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let reports = good_way(&work, &node);
        stage.store.reports_apply(&reports).await.unwrap();
        let before = steps(stage, work.revision_id).await;
        let again = stage.store.reports_apply(&reports).await.unwrap();
        assert!(again.steps.is_empty());
        assert_eq!(again.ignored.duplicate, 5);
        let twice: Vec<_> = reports.iter().chain(&reports).cloned().collect();
        assert_eq!(stage.store.reports_apply(&twice).await.unwrap().ignored.duplicate, 10);
        assert_eq!(steps(stage, work.revision_id).await, before);
    }

    async fn a_report_waits_for_its_predecessor(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let reports = good_way(&work, &node);
        let early = stage.store.reports_apply(&reports[2..]).await.unwrap();
        assert_eq!((early.steps.len(), early.parked), (0, 3));
        assert_eq!(stage.store.reports_apply(&reports[3..]).await.unwrap().parked, 0, "they wait already");
        assert!(stage.store.reports_sweep(Duration::from_secs(60)).await.unwrap().steps.is_empty(), "not overdue");
        assert_eq!(stage.store.reports_apply(&reports[1..2]).await.unwrap().steps.len(), 0);
        assert_eq!(stage.store.reports_apply(&reports[..1]).await.unwrap().steps.len(), 5);
        assert_eq!(stage.path(work.revision_id).await, GOOD_WAY);
        assert!(stage.store.reports_sweep(Duration::ZERO).await.unwrap().steps.is_empty(), "nothing waits any more");
    }

    async fn a_predecessor_that_never_comes_is_given_up(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let reports = good_way(&work, &node);
        stage.store.reports_apply(&[reports[1].clone(), reports[4].clone()]).await.unwrap();
        let swept = stage.store.reports_sweep(Duration::ZERO).await.unwrap();
        assert_eq!(swept.steps.iter().map(|event| event.status).collect::<Vec<_>>(), [S::Building, S::Running]);
        let late = stage.store.reports_apply(&reports).await.unwrap();
        assert_eq!((late.steps.len(), late.ignored.duplicate), (0, 5));
    }

    async fn what_changes_nothing_is_counted_by_reason(stage: Stage) {
        let node = stage.node("n1").await;
        let other = stage.node("n2").await;
        let work = dispatched(stage, "demo", &node).await;
        let elsewhere = dispatched(stage, "other", &node).await;
        let with = |change: fn(&mut StatusReport)| {
            let mut report = report(&work, &node, 1, S::Fetching);
            change(&mut report);
            report
        };
        let mut crossed = with(|_| {});
        crossed.deployment_id = elsewhere.deployment_id;
        let reports = [
            with(|report| report.epoch = 0),
            with(|report| report.epoch = 2),
            report(&work, &other, 1, S::Fetching),
            with(|report| report.node = "n3".parse().unwrap()),
            with(|report| report.revision_id = RevisionId::new()),
            crossed,
            with(|report| report.status = S::Superseded),
            with(|report| report.seq = 0),
            with(|report| report.seq = i32::MIN),
        ];
        let ignored = stage.store.reports_apply(&reports).await.unwrap().ignored;
        assert_eq!(ignored, Ignored { stale_epoch: 1, future_epoch: 1, other_node: 2, unknown: 2, illegal: 3, duplicate: 0 });
        assert_eq!(stage.path(work.revision_id).await, [S::Requested, S::Initialized]);
    }

    async fn after_the_end_nothing_changes(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let mut failed = report(&work, &node, 1, S::Failed);
        failed.failure_reason = Some(FailureReason::ConfigMissing);
        failed.detail = Some("no Config.toml".to_owned());
        stage.store.reports_apply(&[failed]).await.unwrap();
        let late = [report(&work, &node, 2, S::Running), report(&work, &node, 3, S::Destroyed)];
        assert_eq!(stage.store.reports_apply(&late).await.unwrap().ignored.illegal, 2);
        let deployment = stage.deployment(work.deployment_id).await;
        assert_eq!((deployment.status.status, deployment.active_revision_id), (S::Failed, None));
        assert_eq!(deployment.status.failure_reason, Some(FailureReason::ConfigMissing));
        assert_eq!(deployment.status.detail.as_deref(), Some("no Config.toml"));
    }

    async fn the_same_status_again_brings_news_but_no_step(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        stage.store.reports_apply(&good_way(&work, &node)).await.unwrap();
        let mut news = report(&work, &node, 6, S::Running);
        news.detail = Some("restarted twice".to_owned());
        news.facts.services = Some(vec![shared::message::ServiceFacts {
            name: ServiceName::app(), status: S::Running, image: "sha256:1".to_owned(), container: None, restarts: 2,
        }]);
        let applied = stage.store.reports_apply(&[news]).await.unwrap();
        assert!(applied.steps.is_empty());
        assert_eq!(stage.deployment(work.deployment_id).await.status.detail.as_deref(), Some("restarted twice"));
        let services = stage.queries.services_of(&[work.deployment_id]).await.unwrap();
        assert_eq!(services[&work.deployment_id][0].restarts, 2);
        assert_eq!(stage.path(work.revision_id).await, GOOD_WAY);
    }

    async fn a_crash_degrades_and_recovers(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let mut reports = good_way(&work, &node);
        reports.extend([report(&work, &node, 6, S::Degraded), report(&work, &node, 7, S::Running)]);
        assert_eq!(stage.store.reports_apply(&reports).await.unwrap().steps.len(), 7);
        assert_eq!(stage.deployment(work.deployment_id).await.active_revision_id, Some(work.revision_id));
    }

    async fn the_new_one_takes_over_from_the_old(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, first) = stage.running("demo", &node).await;
        let before = stage.queries.ports_of(&[id]).await.unwrap();
        stage.commands.redeploy(id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        assert_eq!(crate::stage::deploy_work(&work).ports.held.len(), 1);
        let reports = good_way(&work, &node);
        stage.store.reports_apply(&reports[..4]).await.unwrap();
        let meanwhile = stage.deployment(id).await;
        assert_eq!((meanwhile.status.status, meanwhile.active_revision_id), (S::Running, Some(first)));
        assert_eq!(meanwhile.status.detail.as_deref(), Some("revision 2 is VERIFYING; revision 1 serves meanwhile"));
        let applied = stage.store.reports_apply(&reports[4..]).await.unwrap();
        let taken: Vec<_> = applied.steps.iter().map(|event| (event.revision, event.status)).collect();
        assert_eq!(taken, [(2, S::Running), (1, S::Superseded)]);
        assert_eq!(stage.deployment(id).await.active_revision_id, Some(work.revision_id));
        assert_eq!(stage.queries.ports_of(&[id]).await.unwrap(), before, "the same port");
    }

    async fn a_failed_candidate_leaves_the_old_one_serving(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, first) = stage.running("demo", &node).await;
        stage.commands.redeploy(id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        let mut failed = report(&work, &node, 1, S::Failed);
        failed.failure_reason = Some(FailureReason::BuildFailed);
        stage.store.reports_apply(&[failed]).await.unwrap();
        let deployment = stage.deployment(id).await;
        assert_eq!((deployment.status.status, deployment.active_revision_id), (S::Running, Some(first)));
        assert_eq!(deployment.latest_revision_id, Some(work.revision_id));
        assert!(deployment.status.detail.unwrap().contains("BUILD_FAILED"));
        assert!(deployment.url.is_some());
        // What it had reserved can be had again: all of the block but the held port.
        stage.tamper("UPDATE nodes SET port_cursor = 3000").await;
        let next = dispatched(stage, "next", &node).await;
        assert_eq!(crate::stage::deploy_work(&next).ports.fresh.len(), 8);
    }

    async fn no_port_goes_back_while_a_candidate_may_have_chosen_it(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        stage.store.reports_apply(&good_way(&work, &node)).await.unwrap();
        let own = leased_port(&work).port;
        // As if the report that ended its use had been lost.
        stage
            .tamper(
                "INSERT INTO port_leases (node_id, port, deployment_id, state, service, container_port, created_at) \
                 SELECT node_id, 65000, deployment_id, state, service, 9000, created_at FROM port_leases",
            )
            .await;
        let held = async |stage: &Stage| -> Vec<u16> {
            let mut ports = stage.queries.ports_of(&[work.deployment_id]).await.unwrap();
            ports.remove(&work.deployment_id).unwrap().into_iter().map(|lease| lease.port).collect()
        };
        stage.commands.redeploy(work.deployment_id, None).await.unwrap();
        stage.dispatch_all(&node).await;
        let candidate = stage.published().await.remove(0);
        let again = |(seq, status)| StatusReport { seq, status, ..good_way(&work, &node).remove(4) };
        let crash = [(6, S::Degraded), (7, S::Running)].map(again);
        stage.store.reports_apply(&crash).await.unwrap();
        assert_eq!(held(stage).await, [own, 65000]);
        stage.store.reports_apply(&good_way(&candidate, &node)).await.unwrap();
        assert_eq!(held(stage).await, [own]);
    }

    async fn a_port_that_was_never_leased_is_not_recorded(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let mut reports = good_way(&work, &node);
        let own = leased_port(&work);
        let foreign = shared::message::LeasedPort { port: 22, ..own.clone() };
        reports[4].facts.ports = Some(vec![foreign, own.clone()]);
        stage.store.reports_apply(&reports).await.unwrap();
        let ports = stage.queries.ports_of(&[work.deployment_id]).await.unwrap();
        assert_eq!(ports[&work.deployment_id].iter().map(|lease| lease.port).collect::<Vec<_>>(), [own.port]);
    }

    async fn hostile_words_are_kept_harmless(stage: Stage) {
        let node = stage.node("n1").await;
        let work = dispatched(stage, "demo", &node).await;
        let mut hostile = report(&work, &node, 1, S::Fetching);
        hostile.detail = Some(format!("nul \0 {}", "é".repeat(20_000)));
        hostile.at = chrono::DateTime::<chrono::Utc>::MAX_UTC;
        hostile.facts.content_hash = Some("x".repeat(10_000));
        let facts = shared::message::ServiceFacts {
            name: ServiceName::app(), status: S::Running, image: "\0".repeat(1000), container: Some("\0".to_owned()), restarts: u32::MAX,
        };
        hostile.facts.services = Some(vec![facts.clone(), facts]);
        let good = dispatched(stage, "good", &node).await;
        let applied = stage.store.reports_apply(&[hostile, report(&good, &node, 1, S::Fetching)]).await.unwrap();
        assert_eq!(applied.steps.len(), 2);
        let revision = stage.revision(work.revision_id).await;
        assert!(revision.status_detail.unwrap().len() <= 16 * 1024 + 2);
        assert_eq!((revision.content_hash, revision.source_version), (None, None));
        assert!(stage.history(work.revision_id).await[2].at < chrono::Utc::now() + chrono::TimeDelta::days(1));
    }

    async fn many_revisions_in_one_batch(stage: Stage) {
        let node = stage.node("n1").await;
        for n in 0..60 {
            stage.create(&format!("app-{n}")).await;
        }
        assert_eq!(stage.dispatch_all(&node).await, 60);
        let reports: Vec<_> = stage.published().await.iter().flat_map(|work| good_way(work, &node)).collect();
        let applied = stage.store.reports_apply(&reports).await.unwrap();
        assert_eq!((applied.steps.len(), applied.parked), (300, 0));
    }

    async fn no_disorder_changes_the_history(stage: Stage) {
        let node = stage.node("n1").await;
        let mut runner = TestRunner::deterministic();
        for case in 0..25 {
            let work = dispatched(stage, &format!("app-{case}"), &node).await;
            let mut reports = good_way(&work, &node);
            reports.extend([
                report(&work, &node, 6, S::Degraded),
                report(&work, &node, 7, S::Fetching),
                report(&work, &node, 8, S::Running),
                report(&work, &node, 9, S::Stopped),
            ]);
            // Each at least once, in any order, in batches of any size.
            let copies = prop::collection::vec(0..reports.len(), 0..12).new_tree(&mut runner).unwrap().current();
            let all: Vec<usize> = (0..reports.len()).chain(copies).collect();
            let shuffled = Just(all).prop_shuffle().new_tree(&mut runner).unwrap().current();
            let size = (1..6_usize).new_tree(&mut runner).unwrap().current();
            for batch in shuffled.chunks(size) {
                let batch: Vec<_> = batch.iter().map(|index| reports[*index].clone()).collect();
                stage.store.reports_apply(&batch).await.unwrap();
            }
            let expected: Vec<_> = GOOD_WAY.into_iter().chain([S::Degraded, S::Running, S::Stopped]).collect();
            assert_eq!(stage.path(work.revision_id).await, expected, "{shuffled:?} by {size}");
            let seqs: Vec<_> = stage.history(work.revision_id).await.iter().map(|event| event.seq).collect();
            assert!(seqs.into_iter().eq(1..=10));
            assert_eq!(stage.queries.ports_of(&[work.deployment_id]).await.unwrap()[&work.deployment_id].len(), 1);
        }
    }

    async fn two_ingesters_with_the_same_reports_record_each_step_once(stage: Stage) {
        let node = stage.node("n1").await;
        let second = stage.second_store().await;
        for case in 0..10 {
            let work = dispatched(stage, &format!("app-{case}"), &node).await;
            let reports = good_way(&work, &node);
            let (one, other) = tokio::join!(stage.store.reports_apply(&reports), second.reports_apply(&reports));
            assert_eq!(one.unwrap().steps.len() + other.unwrap().steps.len(), 5);
            assert_eq!(stage.path(work.revision_id).await, GOOD_WAY);
        }
    }
}
