//! A database of its own for each test, with words to set a scene and look at it.

use chrono::Utc;
use futures::FutureExt;
use orchestrator::command::{CreateDeployment, NewGitSource, NewImageSource, NewSource};
use orchestrator::event::{EventSink, RecordedEvents, Wake};
use orchestrator::settings::GitPolicy;
use orchestrator::store::{Assignment, Store, WorkAnswers};
use orchestrator::view::{DeploymentView, NodeView, RevisionView};
use orchestrator::{Commands, Queries};
use sea_orm::{ConnectionTrait, Database};
use shared::id::{DeploymentId, RevisionId};
use shared::message::{
    Capacity, DeployWork, Heartbeat, LeasedPort, Load, StatusEvent, StatusReport, WorkAction,
    WorkReceipt, WorkRefused, WorkRequest,
};
use shared::name::{NodeName, ServiceName};
use shared::secret::SecretString;
use shared::source::CommitId;
use shared::status::ApplicationStatus;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// Runs each test on both databases.
macro_rules! both {
    ($($(#[$attribute:meta])* async fn $name:ident($stage:ident: $type:ty) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports, reason = "not every test needs everything")]
            use super::*;

            $(#[$attribute])*
            async fn play($stage: &mut $type) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                $crate::stage::Stage::sqlite().await.run(async |stage| play(stage).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                $crate::stage::Stage::postgres().await.run(async |stage| play(stage).await).await;
            }
        }
    )+};
}

pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) commands: Commands,
    pub(crate) queries: Queries,
    pub(crate) recorded: RecordedEvents,
    pub(crate) url: String,
    home: Home,
}

enum Home {
    Directory(tempfile::TempDir),
    Server { admin: String, name: String },
}

impl Stage {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!(
            "sqlite://{}",
            directory.path().join("longshore.db").display()
        );
        Self::open(url, Home::Directory(directory)).await
    }

    pub(crate) async fn postgres() -> Self {
        let admin = std::env::var("LONGSHORE_TEST_DATABASE_URL").expect(
            "LONGSHORE_TEST_DATABASE_URL must name a Postgres server where databases may be created: `make test` starts one",
        );
        let name = format!("longshore_test_{}", uuid::Uuid::new_v4().simple());
        run_as_admin(&admin, &format!("CREATE DATABASE {name}")).await;
        let (server, _) = admin
            .rsplit_once('/')
            .expect("the URL ends with the name of a database");
        Self::open(
            format!("{server}/{name}"),
            Home::Server {
                admin: admin.clone(),
                name,
            },
        )
        .await
    }

    async fn open(url: String, home: Home) -> Self {
        let store = Store::open(&SecretString::from(url.clone()), &CancellationToken::new())
            .await
            .unwrap();
        let (events, recorded) = EventSink::channel();
        let commands = Commands::new(
            store.clone(),
            GitPolicy::default(),
            events,
            Arc::new(Wake::default()),
        );
        Self {
            queries: Queries::new(store.clone()),
            commands,
            store,
            recorded,
            url,
            home,
        }
    }

    /// Whether the store is the one with a single writer.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.home, Home::Directory(_))
    }

    /// Plays a test and clears up after it, also when it fails.
    pub(crate) async fn run(mut self, play: impl AsyncFnOnce(&mut Self)) {
        let outcome = AssertUnwindSafe(play(&mut self)).catch_unwind().await;
        let Self {
            home,
            store,
            commands,
            queries,
            ..
        } = self;
        drop((store, commands, queries));
        match home {
            Home::Directory(directory) => directory.close().unwrap(),
            Home::Server { admin, name } => {
                run_as_admin(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await
            }
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    /// A second process on the same database, as far as the database can tell.
    pub(crate) async fn second_store(&self) -> Store {
        Store::open(
            &SecretString::from(self.url.clone()),
            &CancellationToken::new(),
        )
        .await
        .unwrap()
    }

    /// Runs a statement behind the store's back.
    pub(crate) async fn tamper(&self, sql: &str) {
        let db = Database::connect(&self.url).await.unwrap();
        db.execute_unprepared(sql).await.unwrap();
        db.close().await.unwrap();
    }

    /// A ready node.
    pub(crate) async fn node(&self, name: &str) -> NodeView {
        self.store
            .heartbeats_apply(&[heartbeat(name)])
            .await
            .unwrap();
        self.queries.node_by_name(name).await.unwrap().unwrap()
    }

    pub(crate) async fn create(&self, name: &str) -> DeploymentView {
        self.commands.create(git_deployment(name)).await.unwrap()
    }

    pub(crate) async fn deployment(&self, id: DeploymentId) -> DeploymentView {
        self.queries.deployment_by_id(id).await.unwrap().unwrap()
    }

    pub(crate) async fn revision(&self, id: RevisionId) -> RevisionView {
        self.queries.revision_by_id(id).await.unwrap().unwrap()
    }

    pub(crate) async fn latest(&self, id: DeploymentId) -> RevisionView {
        let latest = self.deployment(id).await.latest_revision_id.unwrap();
        self.revision(latest).await
    }

    pub(crate) async fn history(&self, id: RevisionId) -> Vec<StatusEvent> {
        self.queries
            .events_of(&[id])
            .await
            .unwrap()
            .remove(&id)
            .unwrap_or_default()
    }

    /// The statuses that a revision went through.
    pub(crate) async fn path(&self, id: RevisionId) -> Vec<ApplicationStatus> {
        self.history(id)
            .await
            .iter()
            .map(|event| event.status)
            .collect()
    }

    /// What waits for a node, oldest first.
    pub(crate) async fn waiting(&self) -> Vec<RevisionId> {
        let waiting = self.store.requested(None, 500).await.unwrap();
        waiting.into_iter().map(|revision| revision.id).collect()
    }

    /// Gives everything that waits to this node; how many that were.
    pub(crate) async fn dispatch_all(&self, node: &NodeView) -> usize {
        let waiting = self.waiting().await;
        let claim = self.store.claim(&waiting).await.unwrap();
        let assignments: Vec<_> = claim
            .revisions
            .iter()
            .map(|revision| Assignment {
                revision_id: revision.id,
                node_id: node.id,
            })
            .collect();
        let given = claim.give(&assignments).await.unwrap();
        // Somebody sends them later, as if this process had ended before it could.
        let orders: Vec<_> = given.orders.iter().map(|work| work.request.id).collect();
        self.store.work_unsent(&orders).await.unwrap();
        given.steps.len()
    }

    /// The work requests that are to be published now; they are then published.
    pub(crate) async fn published(&self) -> Vec<WorkRequest> {
        let (token, work) = self
            .store
            .work_publishable(500, LEASE, LEASE)
            .await
            .unwrap();
        let ids: Vec<_> = work.iter().map(|work| work.request.id).collect();
        self.store.work_published(token, &ids).await.unwrap();
        work.into_iter().map(|work| work.request).collect()
    }

    /// A node has a work request in its journal.
    pub(crate) async fn work_accepted(&self, receipt: WorkReceipt) {
        let accepted = vec![receipt];
        self.answered(WorkAnswers {
            accepted,
            ..WorkAnswers::default()
        })
        .await;
    }

    /// A node has come to the end of a work request.
    pub(crate) async fn work_finished(&self, receipt: WorkReceipt) {
        let finished = vec![receipt];
        self.answered(WorkAnswers {
            finished,
            ..WorkAnswers::default()
        })
        .await;
    }

    /// A node will not do a work request.
    pub(crate) async fn work_refused(&self, refused: WorkRefused) {
        let refused = vec![refused];
        self.answered(WorkAnswers {
            refused,
            ..WorkAnswers::default()
        })
        .await;
    }

    async fn answered(&self, answers: WorkAnswers) {
        self.store.node_reports_apply(&[], &answers).await.unwrap();
    }

    /// Brings a new deployment to RUNNING on a node, by way of reports as a node sends them.
    pub(crate) async fn running(&self, name: &str, node: &NodeView) -> (DeploymentId, RevisionId) {
        let deployment = self.create(name).await;
        let revision_id = self.run_latest(deployment.id, node).await;
        (deployment.id, revision_id)
    }

    /// Brings the newest revision to RUNNING on a node.
    pub(crate) async fn run_latest(&self, id: DeploymentId, node: &NodeView) -> RevisionId {
        self.dispatch_all(node).await;
        let work = self.published().await;
        let revision = self.latest(id).await;
        let request = work
            .iter()
            .find(|work| work.revision_id == revision.id)
            .unwrap();
        self.store
            .reports_apply(&good_way(request, node))
            .await
            .unwrap();
        assert_eq!(
            self.revision(revision.id).await.status,
            ApplicationStatus::Running
        );
        revision.id
    }
}

async fn run_as_admin(url: &str, sql: &str) {
    let db = Database::connect(url).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

pub(crate) fn git_deployment(name: &str) -> CreateDeployment {
    let git = NewGitSource {
        url: "https://git.example/app.git".to_owned(),
        ..Default::default()
    };
    CreateDeployment {
        name: name.to_owned(),
        source: NewSource {
            git: Some(git),
            image: None,
        },
        ..Default::default()
    }
}

pub(crate) fn image_deployment(name: &str, image: &str) -> CreateDeployment {
    let image = NewImageSource {
        reference: image.to_owned(),
        port: Some(80),
    };
    CreateDeployment {
        source: NewSource {
            git: None,
            image: Some(image),
        },
        ..git_deployment(name)
    }
}

pub(crate) fn heartbeat(name: &str) -> Heartbeat {
    Heartbeat {
        node: NodeName::parse(name).unwrap(),
        version: "0.1.0".to_owned(),
        advertise: "192.0.2.7".to_owned(),
        labels: Default::default(),
        ready: true,
        detail: None,
        engine: Some("27.0".to_owned()),
        capacity: Capacity {
            cpu_millis: 2000,
            memory_bytes: 1 << 34,
            slots: 2,
        },
        load: Load::default(),
        started_at: Utc::now() - chrono::TimeDelta::hours(1),
        at: Utc::now(),
    }
}

pub(crate) fn deploy_work(request: &WorkRequest) -> &DeployWork {
    match &request.action {
        WorkAction::Deploy(work) => work,
        other => panic!("{other:?}"),
    }
}

/// A report about the revision of a work request.
pub(crate) fn report(
    request: &WorkRequest,
    node: &NodeView,
    seq: i32,
    status: ApplicationStatus,
) -> StatusReport {
    StatusReport {
        node: node.name.clone(),
        deployment_id: request.deployment_id,
        revision_id: request.revision_id,
        epoch: request.epoch,
        seq,
        status,
        failure_reason: None,
        detail: None,
        at: Utc::now(),
        facts: Default::default(),
    }
}

pub(crate) fn commit(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

/// What a node reports when all goes well, with the facts that it learns on the way. The commit is
/// told apart by the revision's number.
pub(crate) fn good_way(request: &WorkRequest, node: &NodeView) -> Vec<StatusReport> {
    use ApplicationStatus as S;
    let way = [
        S::Fetching,
        S::Building,
        S::Starting,
        S::Verifying,
        S::Running,
    ];
    let mut reports: Vec<_> = way
        .into_iter()
        .zip(1..)
        .map(|(status, seq)| report(request, node, seq, status))
        .collect();
    let number = char::from_digit(request.revision as u32, 16).unwrap();
    reports[1].facts.commit = Some(commit(number));
    reports[1].facts.content_hash = Some(number.to_string().repeat(64));
    reports[4].facts.ports = Some(vec![leased_port(request)]);
    reports[4].facts.services = Some(vec![shared::message::ServiceFacts {
        name: ServiceName::app(),
        status: S::Running,
        image: "sha256:1".to_owned(),
        container: Some("c1".to_owned()),
        restarts: 0,
    }]);
    reports
}

/// The port that a node takes: the held one, else the first that it is offered.
pub(crate) fn leased_port(request: &WorkRequest) -> LeasedPort {
    let ports = &deploy_work(request).ports;
    let port = ports
        .held
        .first()
        .map_or_else(|| ports.fresh[0], |held| held.port);
    LeasedPort {
        port,
        container_port: 8000,
        service: ServiceName::app(),
    }
}
