//! Reports that come twice, late, in disorder, from the wrong node or as nonsense.

use crate::fleet::{Fleet, until};
use shared::message::NodeReport;
use shared::status::ApplicationStatus as S;

const WAY: [S; 7] = [
    S::Requested,
    S::Initialized,
    S::Fetching,
    S::Building,
    S::Starting,
    S::Verifying,
    S::Running,
];

everywhere! {
    async fn disorder_and_repetition_leave_the_same_history(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        let mut reports = node.whole_way(&work);
        reports.reverse();
        for report in &reports {
            node.say(std::slice::from_ref(report)).await;
        }
        for _ in 0..2 {
            node.say(&reports).await;
        }
        fleet.until_status(work.revision_id, S::Running).await;
        let history = fleet.history(work.revision_id).await;
        assert_eq!(history.iter().map(|event| event.status).collect::<Vec<_>>(), WAY);
        assert_eq!(history.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    }

    async fn a_report_that_never_came_is_not_waited_for_for_ever(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        node.accept(&work).await;
        let mut steps = node.steps(&work);
        steps.remove(2);
        for step in steps {
            node.say(&[NodeReport::Status(step)]).await;
        }
        fleet.until_status(work.revision_id, S::Running).await;
        let path = fleet.path(work.revision_id).await;
        assert_eq!(path, [S::Requested, S::Initialized, S::Fetching, S::Building, S::Verifying, S::Running]);
    }

    async fn who_does_not_hold_the_revision_changes_nothing(fleet: &mut Fleet) {
        let (mut first, mut second) = (fleet.node("n1").await, fleet.node("n2").await);
        fleet.create("demo").await;
        let (work, holder, other) = tokio::select! {
            work = first.next_work() => (work, &first, &second),
            work = second.next_work() => (work, &second, &first),
        };
        holder.accept(&work).await;
        other.say_status(&work, 1, S::Running).await;
        let mut older = holder.status(&work, 1, S::Failed);
        older.epoch = 0;
        holder.say(&[NodeReport::Status(older)]).await;
        holder.say_status(&work, 1, S::Fetching).await;
        fleet.until_status(work.revision_id, S::Fetching).await;
        assert_eq!(fleet.path(work.revision_id).await, [S::Requested, S::Initialized, S::Fetching]);
    }

    async fn nothing_but_destruction_follows_an_end(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        let deployment = fleet.create("demo").await;
        let work = node.next_work().await;
        node.accept(&work).await;
        let mut failed = node.status(&work, 1, S::Failed);
        failed.failure_reason = Some(shared::status::FailureReason::BuildFailed);
        failed.detail = Some("exit code 3".to_owned());
        node.say(&[NodeReport::Status(failed)]).await;
        node.say_status(&work, 2, S::Running).await;
        fleet.until_status(work.revision_id, S::Failed).await;
        let next = fleet.orchestrator().commands().redeploy(deployment.id, None).await.unwrap();
        let second = node.next_work().await;
        assert_eq!(Some(second.revision_id), next.latest_revision_id);
        let first = fleet.revision(work.revision_id).await;
        assert_eq!((first.status, first.status_detail.as_deref()), (S::Failed, Some("exit code 3")));
    }

    async fn nonsense_stops_nobody(fleet: &mut Fleet) {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        let bodies: [&[u8]; 6] =
            [b"", b"nonsense", b"{\"v\":1}", b"{\"v\":99,\"items\":[]}", b"{\"v\":1,\"items\":[{\"type\":\"x\"}]}", b"[[[[[["];
        for body in bodies {
            node.send(body.to_vec()).await;
        }
        node.deploy(&work).await;
        fleet.until_status(work.revision_id, S::Running).await;
        until("all of it is read", async || fleet.path(work.revision_id).await == WAY).await;
    }
}

/// Longer than a report may be given back twice a second before it counts as dead.
const OUTAGE: std::time::Duration = std::time::Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_delays_reports_and_loses_none() {
    let play = async |fleet: &mut Fleet| {
        let mut node = fleet.node("n1").await;
        fleet.create("demo").await;
        let work = node.next_work().await;
        fleet.database_answers(false).await;
        until("the outage is noticed", async || {
            fleet.orchestrator().health().await.database.is_err()
        })
        .await;
        node.deploy(&work).await;
        // The fault itself lasts.
        tokio::time::sleep(OUTAGE).await;
        fleet.database_answers(true).await;
        until("the outage is over", async || {
            fleet.orchestrator().health().await.database.is_ok()
        })
        .await;
        fleet.until_status(work.revision_id, S::Running).await;
        assert_eq!(fleet.path(work.revision_id).await, WAY);
    };
    Fleet::on_postgres_and_rabbitmq().await.run(play).await;
}
