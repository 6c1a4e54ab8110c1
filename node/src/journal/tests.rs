use super::*;
use proptest::prelude::*;
use shared::message::{
    DeployWork, PortOffer, ReportFacts, ServiceSelection, WorkAction, WorkRequest,
};
use shared::name::{DeploymentName, NodeName};
use shared::source::{GitSource, GitUrl, Source};
use shared::status::ApplicationStatus as S;

fn node() -> NodeName {
    NodeName::parse("n1").unwrap()
}

fn request(action: WorkAction) -> WorkRequest {
    WorkRequest {
        id: WorkId::new(),
        store: StoreIncarnation(uuid::Uuid::nil()),
        deployment_id: DeploymentId::new(),
        deployment_name: DeploymentName::parse("app").unwrap(),
        revision_id: RevisionId::new(),
        revision: 1,
        epoch: 1,
        last_report_seq: 0,
        action,
    }
}

fn stop() -> WorkRequest {
    request(WorkAction::Stop(ServiceSelection::default()))
}

/// What the file holds at this instant, as after a kill: a copy, opened by another process.
fn after_kill(path: &Path, number: usize) -> Journal {
    let copy = path.with_extension(format!("{number}.redb"));
    std::fs::copy(path, &copy).unwrap();
    Journal::open(&copy).unwrap()
}

fn report(draft: &mut Draft<'_>, request: &WorkRequest, status: S) -> bool {
    let WorkRequest {
        deployment_id,
        revision_id,
        epoch,
        ..
    } = *request;
    draft.report(
        &node(),
        deployment_id,
        revision_id,
        epoch,
        status,
        StepReport::default(),
    )
}

#[tokio::test]
async fn an_order_that_waits_counts_on_after_its_deployment_left() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.redb")).unwrap();
    let mut destroy = request(WorkAction::Destroy { volumes: true });
    destroy.last_report_seq = 7;
    let left = journal.change(|draft| {
        draft.accept(&node(), destroy.clone());
        draft.deployment_left(&node(), destroy.deployment_id, 1);
        report(draft, &destroy, S::Destroyed)
    });
    assert!(left.await.unwrap());
    journal.read(|state| assert_eq!(state.standings[&destroy.revision_id].last_seq, 8));
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let journal = Journal::open(&path).unwrap();
    let (one, two) = (stop(), stop());
    let accepted = journal
        .change(|draft| draft.accept(&node(), one.clone()))
        .await
        .unwrap();
    assert!(matches!(accepted, Acceptance::New(_)));
    journal
        .change(|draft| draft.accept(&node(), two.clone()))
        .await
        .unwrap();
    journal
        .change(|draft| report(draft, &one, S::Stopped))
        .await
        .unwrap();
    let entry = journal.read(|state| state.work[&0].clone());
    journal
        .change(|draft| draft.finish(&node(), &entry))
        .await
        .unwrap();

    let next = after_kill(&path, 1);
    next.read(|state| {
        assert_eq!(
            state
                .unfinished()
                .map(|entry| entry.request.id)
                .collect::<Vec<_>>(),
            [two.id]
        );
        assert_eq!(state.standings[&one.revision_id].last_seq, 1);
    });
    let reports: Vec<NodeReport> = next
        .unsent(100)
        .into_iter()
        .map(|(_, report)| report)
        .collect();
    assert_eq!(
        reports,
        journal
            .unsent(100)
            .into_iter()
            .map(|(_, report)| report)
            .collect::<Vec<_>>()
    );
    assert!(matches!(
        reports[..],
        [
            NodeReport::Accepted(_),
            NodeReport::Accepted(_),
            NodeReport::Status(_),
            NodeReport::Finished(_)
        ]
    ));
    let again = next
        .change(|draft| draft.accept(&node(), one.clone()))
        .await
        .unwrap();
    assert_eq!(
        again,
        Acceptance::Repeated,
        "finished work is known after a kill too"
    );
    let more = next
        .change(|draft| draft.accept(&node(), stop()))
        .await
        .unwrap();
    assert!(matches!(more, Acceptance::New(entry) if entry.arrival > entry.attempts.into()));
}

#[tokio::test]
async fn sent_reports_are_gone_and_the_rest_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let journal = Journal::open(&path).unwrap();
    for _ in 0..5 {
        journal
            .change(|draft| draft.accept(&node(), stop()))
            .await
            .unwrap();
    }
    let numbers: Vec<u64> = journal
        .unsent(3)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    journal.change_soon(|draft| draft.reports_sent(3)).unwrap();
    // Anything that is answered afterwards is written behind it.
    journal.change(|_| ()).await.unwrap();
    let left: Vec<u64> = after_kill(&path, 1)
        .unsent(10)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(left, [3, 4]);
    journal.close().await;
    assert!(matches!(
        journal.change(|_| ()).await,
        Err(JournalError::Closed)
    ));
    assert_eq!(Journal::open(&path).unwrap().unsent(10).len(), 2);
}

#[tokio::test]
async fn damage_is_an_error_and_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    std::fs::write(&path, vec![7; 10_000]).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::File(_))));
}

#[tokio::test]
async fn what_is_said_of_a_revision_only_moves_forward() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.redb")).unwrap();
    let work = stop();
    journal
        .change(|draft| draft.accept(&node(), work.clone()))
        .await
        .unwrap();
    let said = journal
        .change(|draft| {
            [
                S::Fetching,
                S::Building,
                S::Fetching,
                S::Building,
                S::Starting,
            ]
            .map(|status| report(draft, &work, status))
        })
        .await
        .unwrap();
    assert_eq!(said, [true, true, false, false, true]);
    let facts = ReportFacts {
        content_hash: Some("x".to_owned()),
        ..ReportFacts::default()
    };
    let step = StepReport {
        facts,
        ..StepReport::default()
    };
    let learnt = journal
        .change(|draft| {
            draft.report(
                &node(),
                work.deployment_id,
                work.revision_id,
                1,
                S::Starting,
                step,
            )
        })
        .await
        .unwrap();
    assert!(learnt, "what was learnt is told without a step");
    let newer = WorkRequest {
        id: WorkId::new(),
        epoch: 2,
        ..work.clone()
    };
    journal
        .change(|draft| draft.accept(&node(), newer.clone()))
        .await
        .unwrap();
    let said = journal
        .change(|draft| {
            [
                report(draft, &work, S::Running),
                report(draft, &newer, S::Fetching),
            ]
        })
        .await;
    assert_eq!(
        said.unwrap(),
        [false, true],
        "an older attempt has nothing to say"
    );
}

#[tokio::test]
async fn a_cancel_that_overtakes_its_deploy_is_the_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.redb")).unwrap();
    let cancel = request(WorkAction::Cancel);
    let source = Source::GitApp(GitSource {
        url: GitUrl::parse("https://forge.example/app.git").unwrap(),
        git_ref: None,
        subdir: None,
        poll_seconds: 0,
    });
    let deploy = DeployWork {
        source,
        commit: None,
        method: None,
        ports: PortOffer::default(),
        given: 0,
    };
    let deploy = WorkRequest {
        id: WorkId::new(),
        action: WorkAction::Deploy(deploy),
        ..cancel.clone()
    };
    let verdicts = journal.change(|draft| {
        draft.accept(&node(), cancel.clone());
        report(draft, &cancel, S::Cancelled);
        let newer = WorkRequest {
            id: WorkId::new(),
            epoch: 2,
            ..deploy.clone()
        };
        [deploy, newer].map(|deploy| draft.accept(&node(), deploy))
    });
    let [same, newer] = verdicts.await.unwrap();
    assert!(matches!(same, Acceptance::Refused { .. }), "{same:?}");
    assert!(matches!(newer, Acceptance::New(_)), "{newer:?}");
}

#[derive(Clone, Debug)]
enum Happening {
    Accept(usize, i32),
    Report(usize, i32, S),
    Finish,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..3usize, 1..4i32).prop_map(|(revision, epoch)| Happening::Accept(revision, epoch)),
        (0..3usize, 1..4i32, prop::sample::select(S::ALL))
            .prop_map(|(revision, epoch, status)| Happening::Report(revision, epoch, status)),
        Just(Happening::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes in whatever order: numbers of one attempt rise by one, attempts never go
    /// back, and memory and file say the same.
    #[test]
    fn numbers_rise_by_one_and_file_and_memory_agree(happenings in prop::collection::vec(happening(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal.redb");
            let journal = Journal::open(&path).unwrap();
            let revisions = [stop(), stop(), stop()];
            for happening in happenings {
                journal.change_soon(|draft| match happening {
                    Happening::Accept(revision, epoch) => {
                        draft.accept(&node(), WorkRequest { id: WorkId::new(), epoch, ..revisions[revision].clone() });
                    }
                    Happening::Report(revision, epoch, status) => {
                        report(draft, &WorkRequest { epoch, ..revisions[revision].clone() }, status);
                    }
                    Happening::Finish => {
                        let first = draft.state().unfinished().next().cloned();
                        if let Some(entry) = first {
                            draft.finish(&node(), &entry);
                        }
                    }
                }).unwrap();
            }
            journal.change(|_| ()).await.unwrap();
            let mut last: BTreeMap<RevisionId, (i32, i32)> = BTreeMap::new();
            for (_, report) in journal.unsent(usize::MAX) {
                let NodeReport::Status(report) = report else { continue };
                let before = last.insert(report.revision_id, (report.epoch, report.seq));
                let (epoch, seq) = before.unwrap_or((report.epoch, 0));
                assert!(report.epoch >= epoch);
                assert_eq!(report.seq, if report.epoch == epoch { seq + 1 } else { 1 });
            }
            let other = after_kill(&path, 1);
            assert_eq!(other.unsent(usize::MAX), journal.unsent(usize::MAX));
            let standings = |journal: &Journal| journal.read(|state| state.standings.clone());
            assert_eq!(standings(&other), standings(&journal));
            let work = |journal: &Journal| journal.read(|state| state.unfinished().cloned().collect::<Vec<_>>());
            assert_eq!(work(&other), work(&journal));
        });
    }
}

#[test]
fn rows_of_a_journal_from_before_placements_were_counted_read() {
    let standing = serde_json::json!({
        "deployment_id": DeploymentId::new(), "epoch": 1, "last_seq": 4, "status": "RUNNING",
    });
    let standing: Standing = serde_json::from_value(standing).unwrap();
    assert_eq!((standing.last_seq, standing.detail), (4, None));
    let running = serde_json::json!({
        "revision_id": RevisionId::new(), "attempt": {"revision": 1, "epoch": 1}, "commit": null,
        "image_digest": null, "content_hash": "", "ports": [], "services": [],
        "spec": shared::spec::DeploymentSpec {
            services: Vec::new(),
            method: shared::status::Method::Rolling,
            about: shared::spec::About::default(),
        },
        "since": chrono::Utc::now(),
    });
    let running: RunningRevision = serde_json::from_value(running).unwrap();
    assert_eq!(running.given, 0, "older than any picture");
    // A digest was once written behind the image's name.
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut named = serde_json::to_value(&running).unwrap();
    named["image_digest"] = serde_json::json!(format!("127.0.0.1:5000/app@{digest}"));
    let named: RunningRevision = serde_json::from_value(named).unwrap();
    assert_eq!(named.image_digest.map(String::from), Some(digest));
}
