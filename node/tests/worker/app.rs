//! An application as the tests have it: what a node is told of it.

use super::support::Stage;
use shared::id::{DeploymentId, RevisionId, WorkId};
use shared::message::{Assigned, DeployWork, LeasedPort, PortOffer, WorkAction, WorkRequest};
use shared::name::{DeploymentName, ServiceName};
use shared::source::{GitSource, GitUrl, Source};
use shared::status::ApplicationStatus;

/// A deployment as an orchestrator would know it.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) deployment_id: DeploymentId,
    pub(crate) revision_id: RevisionId,
    pub(crate) revision: i32,
    pub(crate) epoch: i32,
    pub(crate) held: Vec<LeasedPort>,
    pub(crate) fresh: Vec<u16>,
    /// Which of the node's placements it is.
    pub(crate) given: i64,
}

impl App {
    pub(crate) fn new() -> Self {
        Self {
            deployment_id: DeploymentId::new(),
            revision_id: RevisionId::new(),
            revision: 1,
            epoch: 1,
            held: Vec::new(),
            fresh: vec![3000, 3001, 3002],
            given: 0,
        }
    }

    /// Its next revision, with the port that it holds.
    pub(crate) fn next(&self) -> Self {
        let held = LeasedPort {
            port: 3000,
            container_port: 8000,
            service: ServiceName::app(),
        };
        Self {
            revision_id: RevisionId::new(),
            revision: self.revision + 1,
            held: vec![held],
            fresh: vec![4000, 4001],
            ..self.clone()
        }
    }

    pub(crate) fn deploy(&self, stage: &Stage) -> WorkRequest {
        self.deploy_of(
            stage,
            Source::GitApp(GitSource {
                url: GitUrl::parse("https://git.example/team/app.git").unwrap(),
                git_ref: None,
                subdir: None,
                poll_seconds: 0,
            }),
        )
    }

    /// The same from another source.
    pub(crate) fn deploy_of(&self, stage: &Stage, source: Source) -> WorkRequest {
        let ports = PortOffer {
            held: self.held.clone(),
            fresh: self.fresh.clone(),
        };
        self.work(
            stage,
            WorkAction::Deploy(DeployWork {
                source,
                commit: None,
                method: None,
                ports,
                given: self.given,
            }),
        )
    }

    /// As a picture names it.
    pub(crate) fn assigned(&self, status: ApplicationStatus) -> Assigned {
        Assigned {
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.revision_id,
            revision: self.revision,
            epoch: self.epoch,
            last_report_seq: 0,
            status,
            destroying: false,
        }
    }

    pub(crate) fn work(&self, stage: &Stage, action: WorkAction) -> WorkRequest {
        WorkRequest {
            id: WorkId::new(),
            store: stage.store,
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.revision_id,
            revision: self.revision,
            epoch: self.epoch,
            last_report_seq: 0,
            action,
        }
    }

    /// Deploys it and waits until it runs.
    pub(crate) async fn runs(&self, stage: &Stage) {
        let deploy = self.deploy(stage);
        stage.send(&[&deploy]).await;
        stage
            .until_status(self.revision_id, ApplicationStatus::Running)
            .await;
        stage.until_finished(&deploy).await;
    }
}
