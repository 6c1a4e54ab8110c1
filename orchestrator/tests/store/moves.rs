//! Deployments whose nodes are lost or drained.

use crate::stage::{Stage, commit, deploy_work, good_way, report};
use orchestrator::command::CreateDeployment;
use orchestrator::view::{DeploymentView, NodeView};
use shared::id::{DeploymentId, RevisionId};
use shared::message::WorkRequest;
use shared::name::{NodeName, ServiceName};
use shared::source::ImageRef;
use shared::spec::{DeploymentSpec, HealthSpec, ImageSpec, ServiceSpec, VolumeSpec};
use shared::status::{ApplicationStatus as S, FailureReason, Method, RevisionCause};
use std::time::Duration;

/// A spec as a node resolves it, with a volume or without.
pub(crate) fn spec(has_volume: bool) -> DeploymentSpec {
    let volume = VolumeSpec {
        name: ServiceName::app(),
        path: "/data".to_owned(),
        read_only: false,
    };
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Pull {
            image: ImageRef::parse("app").unwrap(),
        },
        command: None,
        env: Default::default(),
        ports: vec![8000],
        volumes: has_volume.then_some(volume).into_iter().collect(),
        health: HealthSpec::default(),
        resources: Default::default(),
        domain: None,
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: Default::default(),
    }
}

async fn create(stage: &Stage, name: &str, node: Option<&str>) -> DeploymentView {
    let input = CreateDeployment {
        node: node.map(str::to_owned),
        ..crate::stage::git_deployment(name)
    };
    stage.commands.create(input).await.unwrap()
}

/// Gives the newest revision to a node, which reports its whole way.
pub(crate) async fn run(
    stage: &Stage,
    id: DeploymentId,
    node: &NodeView,
    has_volume: bool,
) -> WorkRequest {
    let request = give(stage, id, node).await;
    let mut way = good_way(&request, node);
    way[1].facts.spec = Some(Box::new(spec(has_volume)));
    stage.store.reports_apply(&way).await.unwrap();
    request
}

pub(crate) async fn give(stage: &Stage, id: DeploymentId, node: &NodeView) -> WorkRequest {
    stage.dispatch_all(node).await;
    let latest = stage.latest(id).await.id;
    let work = stage.published().await;
    work.into_iter()
        .find(|work| work.revision_id == latest)
        .unwrap()
}

/// The node is silent, and it alone.
pub(crate) async fn lose(stage: &Stage, node: &NodeView) {
    let others = "UPDATE nodes SET last_heartbeat_at = '2099-01-01T00:00:00+00:00' WHERE name <> ";
    stage.tamper(&format!("{others}'{}'", node.name)).await;
    let lost = stage.store.nodes_mark_lost(Duration::ZERO).await.unwrap();
    assert_eq!(lost, [node.id]);
}

async fn detail(stage: &Stage, id: RevisionId) -> String {
    stage.revision(id).await.status_detail.unwrap_or_default()
}

both! {
    async fn what_a_lost_node_ran_is_made_again_elsewhere(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let old = run(stage, id, &first, false).await.revision_id;
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().steps, [], "its node is there");
        lose(stage, &first).await;
        let moves = stage.store.tenants_move(None, 10).await.unwrap();
        assert_eq!((moves.made, moves.next), (1, None));
        assert_eq!(moves.steps.iter().map(|step| step.status).collect::<Vec<_>>(), [S::Degraded, S::Requested]);
        assert!(detail(stage, old).await.contains("node n1 is lost: no heartbeat for 0 s; it is being moved"));
        let new = stage.latest(id).await;
        assert_eq!((new.number, new.cause), (2, RevisionCause::NodeLost));
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().steps, [], "one move at a time");
        // The very version that served, not what the ref names by now.
        let request = run(stage, id, &second, false).await;
        assert_eq!(deploy_work(&request).commit, Some(commit('1')));
        assert_eq!(stage.revision(old).await.status, S::Superseded);
        let deployment = stage.deployment(id).await;
        assert_eq!((deployment.active_revision_id, deployment.node_id), (Some(new.id), Some(second.id)));
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().steps, []);
    }

    async fn until_another_has_taken_over_a_deployment_is_where_it_serves(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        run(stage, id, &first, false).await;
        let before = stage.deployment(id).await;
        assert!(before.url.is_some());
        stage.tamper("UPDATE nodes SET cordoned = TRUE, drain_until = '2099-01-01T00:00:00+00:00' WHERE name = 'n1'").await;
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 1);
        let request = give(stage, id, &second).await;
        let during = stage.deployment(id).await;
        assert_eq!((during.node_id, &during.url), (Some(first.id), &before.url));
        stage.store.reports_apply(&[report(&request, &second, 1, S::Failed)]).await.unwrap();
        let after = stage.deployment(id).await;
        assert_eq!((after.node_id, &after.url), (Some(first.id), &before.url));
    }

    async fn many_are_looked_at_in_parts(stage: Stage) {
        let node = stage.node("n1").await;
        for name in ["a", "b", "c", "d", "e"] {
            let id = stage.create(name).await.id;
            run(stage, id, &node, false).await;
        }
        lose(stage, &node).await;
        let (mut after, mut made) = (None, Vec::new());
        loop {
            let moves = stage.store.tenants_move(after, 2).await.unwrap();
            made.push(moves.made);
            after = moves.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(made, [2, 2, 1]);
    }

    async fn what_is_pinned_or_has_volumes_stays_and_says_so(stage: Stage) {
        let node = stage.node("n1").await;
        let pinned = create(stage, "pinned", Some("n1")).await.id;
        let pinned_revision = run(stage, pinned, &node, false).await.revision_id;
        let kept = stage.create("kept").await.id;
        let kept_revision = run(stage, kept, &node, true).await.revision_id;
        lose(stage, &node).await;
        let moves = stage.store.tenants_move(None, 10).await.unwrap();
        assert_eq!((moves.made, moves.steps.len()), (0, 2));
        assert!(detail(stage, pinned_revision).await.ends_with("it stays: it is pinned to it"));
        assert!(detail(stage, kept_revision).await.ends_with("it stays: it has local volumes"));
        let claim = stage.store.claim(&[]).await.unwrap();
        assert_eq!(claim.with_volumes(&[pinned, kept]).await.unwrap(), [kept].into());
        drop(claim);
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().steps, [], "said once");
    }

    async fn tries_that_fail_are_repeated_after_pauses_and_end(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let old = run(stage, id, &first, false).await.revision_id;
        lose(stage, &first).await;
        for tried in 1..=5 {
            assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 1, "try {tried}");
            let request = give(stage, id, &second).await;
            let mut failed = report(&request, &second, 1, S::Failed);
            failed.failure_reason = Some(FailureReason::StartFailed);
            stage.store.reports_apply(&[failed]).await.unwrap();
            assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 0, "a pause follows try {tried}");
            stage.tamper("UPDATE revisions SET updated_at = '2020-01-01T00:00:00+00:00' WHERE status = 'FAILED'").await;
        }
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 0);
        assert!(detail(stage, old).await.contains("failed 5 times in a row"));
        // What a person asks for begins anew.
        stage.commands.redeploy(id, None).await.unwrap();
        let request = give(stage, id, &second).await;
        stage.store.reports_apply(&[report(&request, &second, 1, S::Failed)]).await.unwrap();
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 1);
    }

    async fn a_move_that_nobody_began_is_given_up_when_the_node_serves_again(stage: Stage) {
        let node = stage.node("n1").await;
        let id = stage.create("demo").await.id;
        let request = run(stage, id, &node, false).await;
        lose(stage, &node).await;
        stage.store.tenants_move(None, 10).await.unwrap();
        assert_eq!(stage.store.moves_settle().await.unwrap(), []);
        crate::node::bring_back(stage, "n1").await;
        assert_eq!(stage.store.moves_settle().await.unwrap(), [], "it has not said yet that it runs");
        stage.store.reports_apply(&[report(&request, &node, 6, S::Running)]).await.unwrap();
        let settled = stage.store.moves_settle().await.unwrap();
        assert_eq!((settled.len(), settled[0].status, settled[0].revision), (1, S::Cancelled, 2));
        assert_eq!(settled[0].detail.as_deref(), Some("its node n1 is back"));
        // A later loss is another story: that one does not count as a try.
        lose(stage, &node).await;
        assert_eq!(stage.store.tenants_move(None, 10).await.unwrap().made, 1);
    }

    async fn what_was_being_restarted_there_is_given_out_again(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let request = run(stage, id, &first, false).await;
        stage.commands.restart(id, Vec::new()).await.unwrap();
        stage.published().await;
        stage.store.reports_apply(&[report(&request, &first, 6, S::Starting)]).await.unwrap();
        lose(stage, &first).await;
        let moves = stage.store.tenants_move(None, 10).await.unwrap();
        assert_eq!((moves.made, moves.steps.len(), moves.steps[0].status), (0, 1, S::Requested));
        let again = give(stage, id, &second).await;
        assert_eq!((again.revision_id, again.epoch, deploy_work(&again).commit.clone()), (request.revision_id, 2, Some(commit('1'))));
        assert!(stage.store.reports_apply(&[report(&request, &first, 7, S::Running)]).await.unwrap().steps.is_empty());
        stage.store.reports_apply(&good_way(&again, &second)).await.unwrap();
        assert_eq!(stage.revision(request.revision_id).await.status, S::Running);
        crate::node::bring_back(stage, "n1").await;
        assert!(stage.published().await.is_empty(), "nobody restarts what is elsewhere");
    }

    async fn a_draining_node_is_left_without_a_fuss(stage: Stage) {
        let (first, second) = (stage.node("n1").await, stage.node("n2").await);
        let id = stage.create("demo").await.id;
        let old = run(stage, id, &first, false).await.revision_id;
        stage.tamper("UPDATE nodes SET cordoned = TRUE, drain_until = '2099-01-01T00:00:00+00:00' WHERE name = 'n1'").await;
        let moves = stage.store.tenants_move(None, 10).await.unwrap();
        assert_eq!((moves.made, moves.steps.len()), (1, 1));
        assert_eq!((stage.revision(old).await.status, stage.latest(id).await.cause), (S::Running, RevisionCause::Moved));
        let nodes = stage.store.nodes_for_placement().await.unwrap();
        assert_eq!(nodes.iter().map(|node| (node.cordoned, node.draining)).collect::<Vec<_>>(), [(true, true), (false, false)]);
        assert_eq!(stage.store.moves_settle().await.unwrap(), []);
        // Not drained any longer before anybody began.
        stage.tamper("UPDATE nodes SET cordoned = FALSE, drain_until = NULL").await;
        assert_eq!(stage.store.moves_settle().await.unwrap()[0].detail.as_deref(), Some("its node n1 is not being drained any longer"));
        stage.tamper(&format!("UPDATE nodes SET removed_at = '2020-01-01T00:00:00+00:00' WHERE name = '{}'", NodeName::parse("n1").unwrap())).await;
        assert_eq!(stage.store.nodes_for_placement().await.unwrap().iter().map(|node| node.id).collect::<Vec<_>>(), [second.id]);
    }
}
