//! Starting, stopping, restarting and destroying.

use crate::stage::{Stage, good_way, report};
use shared::id::DeploymentId;
use shared::message::{ServiceSelection, WorkAction, WorkReceipt, WorkRequest};
use shared::spec::{DeploymentSpec, HealthSpec, ImageSpec, ServiceSpec};
use shared::status::{ApplicationStatus as S, DesiredState, Method};

fn all() -> ServiceSelection {
    ServiceSelection::default()
}

/// The next report of a revision that is RUNNING by the good way.
fn next(
    request: &WorkRequest,
    node: &orchestrator::view::NodeView,
    seq: i32,
    status: S,
) -> shared::message::StatusReport {
    report(request, node, seq, status)
}

fn spec() -> DeploymentSpec {
    let service = ServiceSpec {
        name: "app".parse().unwrap(),
        image: ImageSpec::Pull {
            image: "nginx".parse().unwrap(),
        },
        command: None,
        env: Default::default(),
        ports: vec![8000],
        volumes: Vec::new(),
        health: HealthSpec::default(),
        resources: Default::default(),
        domain: Some("demo.example".to_owned()),
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: Default::default(),
    }
}

both! {
    async fn stopped_and_started_again(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, revision_id) = stage.running("demo", &node).await;
        let port = stage.queries.ports_of(&[id]).await.unwrap();
        let stopping = stage.commands.stop(id, Vec::new()).await.unwrap();
        assert_eq!((stopping.desired_state, stopping.status.detail.as_deref()), (DesiredState::Stopped, Some("being stopped")));
        assert_eq!(stopping.git_watch.unwrap().next_poll_at, None, "what is stopped is not watched");
        stage.commands.stop(id, Vec::new()).await.unwrap();
        let work = stage.published().await;
        assert_eq!(work.iter().map(|work| &work.action).collect::<Vec<_>>(), [&WorkAction::Stop(all())]);
        assert_eq!((work[0].revision_id, work[0].last_report_seq), (revision_id, 5));
        stage.store.reports_apply(&[next(&work[0], &node, 6, S::Stopped)]).await.unwrap();
        let stopped = stage.commands.stop(id, Vec::new()).await.unwrap();
        assert_eq!(stopped.status.status, S::Stopped);
        assert_eq!(stage.queries.ports_of(&[id]).await.unwrap(), port, "ports are kept");
        assert!(stage.published().await.is_empty());

        stage.commands.start(id, Vec::new()).await.unwrap();
        let work = stage.published().await;
        assert_eq!(work[0].action, WorkAction::Start(all()));
        let back = [S::Starting, S::Verifying, S::Running];
        let reports: Vec<_> = back.into_iter().zip(7..).map(|(status, seq)| next(&work[0], &node, seq, status)).collect();
        stage.store.reports_apply(&reports[..1]).await.unwrap();
        assert_eq!(stage.commands.cancel_revision(revision_id).await.unwrap_err().code(), "CONFLICT");
        stage.store.reports_apply(&reports).await.unwrap();
        let running = stage.commands.start(id, Vec::new()).await.unwrap();
        assert_eq!((running.status.status, running.active_revision_id), (S::Running, Some(revision_id)));
        assert!(stage.published().await.is_empty());
    }

    async fn restarting_is_one_order(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, _) = stage.running("demo", &node).await;
        stage.commands.restart(id, Vec::new()).await.unwrap();
        assert_eq!(stage.published().await[0].action, WorkAction::Restart(all()));
    }

    async fn a_stop_after_a_start_that_is_on_its_way_is_an_order_too(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, _) = stage.running("demo", &node).await;
        stage.commands.stop(id, Vec::new()).await.unwrap();
        let stop = stage.published().await.remove(0);
        stage.store.reports_apply(&[next(&stop, &node, 6, S::Stopped)]).await.unwrap();
        stage.work_finished(WorkReceipt { node: node.name.clone(), work_id: stop.id }).await;
        stage.commands.restart(id, Vec::new()).await.unwrap();
        assert_eq!(stage.deployment(id).await.status.status, S::Stopped, "its node has not begun");
        stage.commands.stop(id, Vec::new()).await.unwrap();
        stage.commands.stop(id, Vec::new()).await.unwrap();
        let work = stage.published().await;
        let actions: Vec<_> = work.iter().map(|work| &work.action).collect();
        assert_eq!(actions, [&WorkAction::Restart(all()), &WorkAction::Stop(all())]);
    }

    async fn single_services_by_their_names(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        let app = || vec!["app".to_owned()];
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        // Not before: the claim skips what is locked, and a refused wish lets go a moment later.
        assert_eq!(stage.commands.stop(deployment.id, app()).await.unwrap_err().code(), "CONFLICT");
        let mut reports = good_way(&work, &node);
        reports[1].facts.spec = Some(Box::new(spec()));
        stage.store.reports_apply(&reports).await.unwrap();
        let view = stage.commands.stop(deployment.id, app()).await.unwrap();
        assert_eq!(view.desired_state, DesiredState::Running);
        let work = stage.published().await;
        assert_eq!(work[0].action, WorkAction::Stop(ServiceSelection { services: vec!["app".parse().unwrap()] }));
        let error = stage.commands.restart(deployment.id, vec!["app".to_owned(), "db".to_owned()]).await.unwrap_err();
        assert_eq!(error.code(), "INVALID_INPUT");
        assert!(error.to_string().contains("`db`") && error.to_string().contains("it has: app"), "{error}");
        assert_eq!(stage.commands.start(deployment.id, vec!["No".to_owned()]).await.unwrap_err().code(), "INVALID_INPUT");
        let services = stage.queries.services_of(&[deployment.id]).await.unwrap();
        assert_eq!(services[&deployment.id][0].domain.as_deref(), Some("demo.example"));
    }

    async fn stopping_what_is_on_its_way_gives_it_up(stage: Stage) {
        let deployment = stage.create("demo").await;
        let stopped = stage.commands.stop(deployment.id, Vec::new()).await.unwrap();
        assert_eq!((stopped.desired_state, stopped.status.status), (DesiredState::Stopped, S::Cancelled));
        let code = |error: orchestrator::CommandError| error.code();
        assert_eq!(stage.commands.stop(deployment.id, Vec::new()).await.map_err(code), Err("CONFLICT"));
        assert_eq!(stage.commands.start(deployment.id, Vec::new()).await.map_err(code), Err("CONFLICT"));
        assert_eq!(stage.commands.restart(deployment.id, Vec::new()).await.map_err(code), Err("CONFLICT"));
        let again = stage.commands.redeploy(deployment.id, None).await.unwrap();
        assert_eq!((again.desired_state, again.status.status), (DesiredState::Running, S::Requested));
    }

    async fn what_came_up_after_the_stop_is_stopped(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.commands.stop(deployment.id, Vec::new()).await.unwrap();
        let error = stage.commands.start(deployment.id, Vec::new()).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT", "what is being given up does not come back");
        assert_eq!(stage.published().await[0].action, WorkAction::Cancel);
        // The node was faster than the request to give it up.
        stage.store.reports_apply(&good_way(&deploy, &node)).await.unwrap();
        let work = stage.published().await;
        assert_eq!(work.iter().map(|work| &work.action).collect::<Vec<_>>(), [&WorkAction::Stop(all())]);
        assert_eq!(work[0].last_report_seq, 5);
        stage.commands.stop(deployment.id, Vec::new()).await.unwrap();
        assert!(stage.published().await.is_empty(), "it is on its way");
        let receipt = WorkReceipt { node: node.name.clone(), work_id: work[0].id };
        stage.work_finished(receipt).await;
        stage.commands.stop(deployment.id, Vec::new()).await.unwrap();
        assert_eq!(stage.published().await[0].action, WorkAction::Stop(all()), "it runs in spite of it: asked again");
    }

    async fn what_was_never_placed_is_destroyed_at_once(stage: Stage) {
        let deployment = stage.create("demo").await;
        let destroyed = stage.commands.destroy(deployment.id, false).await.unwrap();
        assert_eq!((destroyed.desired_state, destroyed.status.status), (DesiredState::Destroyed, S::Destroyed));
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), None);
        let node = stage.node("n1").await;
        assert_eq!(stage.dispatch_all(&node).await, 0);
    }

    async fn destroying_ends_everything_once_the_node_says_so(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, first) = stage.running("demo", &node).await;
        stage.commands.redeploy(id, None).await.unwrap();
        let second = stage.run_latest(id, &node).await;
        stage.commands.redeploy(id, None).await.unwrap();
        let third = stage.latest(id).await.id;
        let going = stage.commands.destroy(id, true).await.unwrap();
        assert_eq!(going.status.detail.as_deref(), Some("being destroyed"));
        assert_eq!(stage.revision(third).await.status, S::Destroyed, "no node ever had it");
        assert_eq!(stage.dispatch_all(&node).await, 0);
        let work = stage.published().await;
        assert_eq!(work.iter().map(|work| &work.action).collect::<Vec<_>>(), [&WorkAction::Destroy { volumes: true }]);
        assert_eq!(work[0].revision_id, second);
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap().unwrap().id, id, "the name is still taken");
        let applied = stage.store.reports_apply(&[next(&work[0], &node, 6, S::Destroyed)]).await.unwrap();
        assert_eq!(applied.steps.len(), 2);
        for revision_id in [first, second] {
            assert_eq!(stage.revision(revision_id).await.status, S::Destroyed);
        }
        let gone = stage.deployment(id).await;
        assert_eq!((gone.status.status, gone.status.detail, gone.url), (S::Destroyed, None, None));
        assert!(stage.queries.ports_of(&[id]).await.unwrap().is_empty());
        assert!(stage.queries.services_of(&[id]).await.unwrap().is_empty());
        assert!(stage.queries.services_of(&[id]).await.unwrap().is_empty());
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), None);
        assert!(stage.queries.deployments_page(&Default::default(), &Default::default()).await.unwrap().edges.is_empty());
        stage.create("demo").await;
    }

    async fn the_end_counts_beside_a_report_of_its_number(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let deploy = stage.published().await.remove(0);
        stage.commands.destroy(deployment.id, false).await.unwrap();
        // The node had it destroyed and forgotten before the deploy, which was late, came to it.
        let said = [next(&deploy, &node, 1, S::Destroyed), next(&deploy, &node, 1, S::Fetching)];
        stage.store.reports_apply(&said).await.unwrap();
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), None);
    }

    async fn every_node_that_had_something_must_answer(stage: Stage) {
        let (one, two) = (stage.node("n1").await, stage.node("n2").await);
        let (id, _) = stage.running("demo", &one).await;
        stage.commands.redeploy(id, None).await.unwrap();
        stage.run_latest(id, &two).await;
        stage.commands.destroy(id, false).await.unwrap();
        let work = stage.published().await;
        assert_eq!(work.len(), 2);
        let by = |revision: i32| work.iter().find(|work| work.revision == revision).unwrap();
        // The revision on the first node was superseded: its last report is what it said when it ran.
        stage.store.reports_apply(&[next(by(1), &one, by(1).last_report_seq + 1, S::Destroyed)]).await.unwrap();
        assert!(stage.queries.deployment_by_name("demo").await.unwrap().is_some());
        stage.store.reports_apply(&[next(by(2), &two, by(2).last_report_seq + 1, S::Destroyed)]).await.unwrap();
        assert_eq!(stage.queries.deployment_by_name("demo").await.unwrap(), None);
    }

    async fn a_destroyed_deployment_takes_no_wish(stage: Stage) {
        let node = stage.node("n1").await;
        let (going, revision_going) = stage.running("going", &node).await;
        let gone = stage.create("gone").await.id;
        let revision_gone = stage.latest(gone).await.id;
        stage.commands.destroy(going, false).await.unwrap();
        stage.commands.destroy(gone, false).await.unwrap();
        let cases = [(going, revision_going, "is being destroyed"), (gone, revision_gone, "is already destroyed")];
        for (id, revision_id, words) in cases {
            let errors = [
                stage.commands.cancel_revision(revision_id).await.unwrap_err(),
                stage.commands.destroy(id, false).await.unwrap_err(),
                stage.commands.redeploy(id, None).await.unwrap_err(),
                stage.commands.rollback(id, None).await.unwrap_err(),
                stage.commands.start(id, Vec::new()).await.unwrap_err(),
                stage.commands.stop(id, Vec::new()).await.unwrap_err(),
                stage.commands.restart(id, Vec::new()).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.code(), "CONFLICT");
                assert!(error.to_string().contains(words), "{error}");
            }
        }
        assert_eq!(stage.commands.destroy(DeploymentId::new(), false).await.unwrap_err().code(), "NOT_FOUND");
    }
}
