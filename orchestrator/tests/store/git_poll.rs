//! Looking at repositories.

use crate::stage::{LEASE, Stage, commit, git_deployment, report};
use orchestrator::store::{DuePoll, PollOutcome};
use shared::id::DeploymentId;
use shared::source::CommitId;
use shared::status::{ApplicationStatus as S, RevisionCause};
use std::time::Duration;
use uuid::Uuid;

impl Stage {
    /// Makes every repository due, and claims them.
    async fn due(&self) -> (Uuid, Vec<DuePoll>) {
        self.tamper("UPDATE deployments SET next_poll_at = '2020-01-01T00:00:00+00:00' WHERE next_poll_at IS NOT NULL").await;
        self.store.git_polls_due(100, LEASE).await.unwrap()
    }

    /// A look at the only repository finds this.
    async fn look(&self, found: Result<CommitId, &str>) -> usize {
        let (token, due) = self.due().await;
        assert_eq!(due.len(), 1);
        let outcome = PollOutcome {
            deployment_id: due[0].deployment_id,
            source: due[0].source.clone(),
            found: found.map_err(str::to_owned),
            next_in: Duration::from_secs(60),
        };
        self.store
            .git_polls_record(token, &[outcome])
            .await
            .unwrap()
            .steps
            .len()
    }

    async fn seen(&self, id: DeploymentId) -> Option<String> {
        self.deployment(id)
            .await
            .git_watch
            .unwrap()
            .last_seen_commit
    }
}

both! {
    async fn what_is_due_is_claimed_once(stage: Stage) {
        let deployment = stage.create("demo").await;
        assert!(stage.store.git_polls_due(100, LEASE).await.unwrap().1.is_empty(), "in a minute");
        assert!(stage.store.git_poll_next().await.unwrap().is_some());
        let (token, due) = stage.due().await;
        assert_eq!(due[0].deployment_id, deployment.id);
        assert!(stage.store.git_polls_due(100, LEASE).await.unwrap().1.is_empty());
        let outcome = PollOutcome {
            deployment_id: deployment.id,
            source: due[0].source.clone(),
            found: Err("could not resolve host\0".to_owned()),
            next_in: Duration::from_secs(60),
        };
        stage.store.git_polls_record(Uuid::new_v4(), std::slice::from_ref(&outcome)).await.unwrap();
        assert_eq!(stage.deployment(deployment.id).await.git_watch.unwrap().last_polled_at, None, "somebody else's claim");
        stage.store.git_polls_record(token, &[outcome]).await.unwrap();
        let watch = stage.deployment(deployment.id).await.git_watch.unwrap();
        assert_eq!(watch.last_poll_error.as_deref(), Some("could not resolve host\u{fffd}"));
        assert!(watch.last_polled_at.is_some() && watch.next_poll_at > watch.last_polled_at);
    }

    async fn a_claim_that_is_held_on_to_does_not_lapse(stage: Stage) {
        const LAPSE: &str = "UPDATE deployments SET poll_claimed_until = '2020-01-01T00:00:00+00:00'";
        stage.create("demo").await;
        let (token, _) = stage.due().await;
        stage.tamper(LAPSE).await;
        stage.store.git_polls_hold(&[token], LEASE).await.unwrap();
        assert!(stage.store.git_polls_due(100, LEASE).await.unwrap().1.is_empty());
        stage.tamper(LAPSE).await;
        stage.store.git_polls_hold(&[Uuid::new_v4()], LEASE).await.unwrap();
        assert_eq!(stage.store.git_polls_due(100, LEASE).await.unwrap().1.len(), 1, "nobody holds it");
    }

    async fn a_new_commit_is_a_new_revision_by_itself(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, first) = stage.running("demo", &node).await;
        assert_eq!(stage.look(Ok(commit('1'))).await, 0, "what runs");
        assert_eq!(stage.seen(id).await.as_deref(), Some(commit('1').as_str()));
        assert_eq!(stage.look(Err("timeout")).await, 0);
        assert_eq!(stage.look(Ok(commit('2'))).await, 1);
        assert_eq!(stage.look(Ok(commit('2'))).await, 0, "once");
        let second = stage.latest(id).await;
        assert_eq!((second.number, second.cause), (2, RevisionCause::NewCommit));
        assert_eq!(stage.deployment(id).await.git_watch.unwrap().last_poll_error, None);
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        assert_eq!(crate::stage::deploy_work(&work).commit, Some(commit('2')));
        assert_eq!(stage.revision(first).await.status, S::Running);
    }

    async fn nothing_is_decided_while_the_newest_may_be_about_it(stage: Stage) {
        let node = stage.node("n1").await;
        let deployment = stage.create("demo").await;
        stage.dispatch_all(&node).await;
        assert_eq!(stage.look(Ok(commit('1'))).await, 0);
        assert_eq!(stage.seen(deployment.id).await, None);
        let work = stage.published().await.remove(0);
        stage.store.reports_apply(&crate::stage::good_way(&work, &node)).await.unwrap();
        assert_eq!(stage.look(Ok(commit('1'))).await, 0);
        assert_eq!(stage.seen(deployment.id).await.as_deref(), Some(commit('1').as_str()));
    }

    async fn a_repository_that_becomes_reachable_is_deployed(stage: Stage) {
        let node = stage.node("n1").await;
        stage.create("demo").await;
        stage.dispatch_all(&node).await;
        let work = stage.published().await.remove(0);
        stage.store.reports_apply(&[report(&work, &node, 1, S::Failed)]).await.unwrap();
        assert_eq!(stage.look(Ok(commit('1'))).await, 1);
        assert_eq!(stage.look(Ok(commit('1'))).await, 0);
    }

    async fn what_somebody_gave_up_or_went_back_from_is_left_alone(stage: Stage) {
        let node = stage.node("n1").await;
        let given_up = stage.create("given-up").await;
        stage.commands.cancel_revision(given_up.latest_revision_id.unwrap()).await.unwrap();
        assert_eq!(stage.look(Ok(commit('1'))).await, 0);
        stage.commands.destroy(given_up.id, false).await.unwrap();

        let (id, _) = stage.running("demo", &node).await;
        stage.commands.redeploy(id, None).await.unwrap();
        stage.run_latest(id, &node).await;
        stage.commands.rollback(id, None).await.unwrap();
        assert_eq!(stage.look(Ok(commit('2'))).await, 0, "the watcher does not undo a rollback");
        assert_eq!(stage.look(Ok(commit('3'))).await, 2, "but goes on from there");
    }

    async fn a_rollback_holds_although_no_look_had_seen_what_it_left(stage: Stage) {
        let node = stage.node("n1").await;
        // Of commits 1 and 2, the second deployed by hand between two looks.
        let (id, _) = stage.running("demo", &node).await;
        assert_eq!(stage.look(Ok(commit('1'))).await, 0);
        stage.commands.redeploy(id, None).await.unwrap();
        stage.run_latest(id, &node).await;
        stage.commands.rollback(id, None).await.unwrap();
        assert_eq!(stage.look(Ok(commit('2'))).await, 0, "it was left on purpose");
        assert_eq!(stage.seen(id).await, Some(commit('2').to_string()));
        stage.run_latest(id, &node).await;
        assert_eq!(stage.look(Ok(commit('2'))).await, 0);
        assert_eq!(stage.look(Ok(commit('4'))).await, 1, "news");
    }

    async fn what_should_not_run_is_not_watched(stage: Stage) {
        let node = stage.node("n1").await;
        let (stopped, _) = stage.running("stopped", &node).await;
        stage.commands.stop(stopped, Vec::new()).await.unwrap();
        let gone = stage.create("gone").await;
        stage.commands.destroy(gone.id, false).await.unwrap();
        let mut never = git_deployment("never");
        never.source.git.as_mut().unwrap().poll_seconds = Some(0);
        stage.commands.create(never).await.unwrap();
        assert!(stage.due().await.1.is_empty());
        assert_eq!(stage.store.git_poll_next().await.unwrap(), None);
    }

    async fn what_was_found_is_only_about_what_was_looked_at(stage: Stage) {
        let node = stage.node("n1").await;
        let (id, _) = stage.running("demo", &node).await;
        let (token, due) = stage.due().await;
        stage.commands.redeploy(id, Some("v2".to_owned())).await.unwrap();
        let outcome = PollOutcome {
            deployment_id: id, source: due[0].source.clone(), found: Ok(commit('9')), next_in: Duration::from_secs(60),
        };
        assert!(stage.store.git_polls_record(token, &[outcome]).await.unwrap().steps.is_empty());
        assert_eq!(stage.seen(id).await, None);
    }
}
