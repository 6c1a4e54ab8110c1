//! A database, a bus and orchestrators on them, for one test.

use crate::node::FakeNode;
use futures::FutureExt;
use orchestrator::command::{CreateDeployment, NewGitSource, NewSource};
use orchestrator::view::{DeploymentView, RevisionView};
use orchestrator::{Orchestrator, Service, ServiceError, Settings};
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, TransactionTrait};
use shared::bus::Bus;
use shared::bus::amqp::test_broker::TestBroker;
use shared::bus::conformance::Fixture;
use shared::bus::local::LocalBus;
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use shared::name::NodeName;
use shared::status::ApplicationStatus;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// Runs each test in each setting.
macro_rules! everywhere {
    ($(async fn $name:ident($fleet:ident: &mut Fleet) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn play($fleet: &mut $crate::fleet::Fleet) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn standalone() {
                $crate::fleet::Fleet::standalone().await.run(async |fleet| play(fleet).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                $crate::fleet::Fleet::on_postgres().await.run(async |fleet| play(fleet).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres_and_rabbitmq() {
                $crate::fleet::Fleet::on_postgres_and_rabbitmq().await.run(async |fleet| play(fleet).await).await;
            }
        }
    )+};
}

/// Everything of one test.
pub(crate) struct Fleet {
    database: Home,
    transport: Transport,
    orchestrators: Vec<Running>,
}

enum Home {
    Sqlite(tempfile::TempDir),
    Postgres { admin: String, name: String },
}

enum Transport {
    Local(LocalBus),
    Amqp(Box<TestBroker>),
}

struct Running {
    orchestrator: Orchestrator,
    stop: CancellationToken,
    service: JoinHandle<Result<(), ServiceError>>,
}

impl Fleet {
    pub(crate) async fn standalone() -> Self {
        Self::start(
            Home::Sqlite(tempfile::tempdir().unwrap()),
            Transport::Local(LocalBus::new()),
        )
        .await
    }

    pub(crate) async fn on_postgres() -> Self {
        Self::start(Home::postgres().await, Transport::Local(LocalBus::new())).await
    }

    pub(crate) async fn on_postgres_and_rabbitmq() -> Self {
        let broker = Box::new(TestBroker::start().await);
        Self::start(Home::postgres().await, Transport::Amqp(broker)).await
    }

    async fn start(database: Home, transport: Transport) -> Self {
        let mut fleet = Self {
            database,
            transport,
            orchestrators: Vec::new(),
        };
        fleet.add_orchestrator().await;
        fleet
    }

    /// Plays a test and clears up after it, also when it fails. No loop may have ended by itself.
    pub(crate) async fn run(mut self, play: impl AsyncFnOnce(&mut Self)) {
        let outcome = AssertUnwindSafe(play(&mut self)).catch_unwind().await;
        while !self.orchestrators.is_empty() {
            self.stop_orchestrator().await;
        }
        match &self.transport {
            Transport::Local(bus) => bus.close(),
            Transport::Amqp(broker) => broker.finish().await,
        }
        self.database.drop().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    /// One more orchestrator process, as far as database and bus can tell.
    pub(crate) async fn add_orchestrator(&mut self) {
        let bus = self.orchestrator_bus();
        let stop = CancellationToken::new();
        let settings = Settings::new(self.database.url().into());
        let (orchestrator, service): (Orchestrator, Service) =
            Orchestrator::start(settings, bus, stop.clone())
                .await
                .unwrap();
        let service = tokio::spawn(service.run());
        self.orchestrators.push(Running {
            orchestrator,
            stop,
            service,
        });
    }

    /// Stops the orchestrator that was started first.
    pub(crate) async fn stop_orchestrator(&mut self) {
        let Running {
            stop,
            service,
            orchestrator,
        } = self.orchestrators.remove(0);
        drop(orchestrator);
        assert!(
            !service.is_finished(),
            "a loop ended by itself: {:?}",
            service.await
        );
        stop.cancel();
        within("an orchestrator stops", service)
            .await
            .unwrap()
            .unwrap();
    }

    /// Ends the only orchestrator and starts another on the same database.
    pub(crate) async fn stop_and_replace(&mut self) {
        self.stop_orchestrator().await;
        self.add_orchestrator().await;
    }

    /// The orchestrator that was started last.
    pub(crate) fn orchestrator(&self) -> &Orchestrator {
        &self.orchestrators.last().unwrap().orchestrator
    }

    pub(crate) fn orchestrator_bus(&self) -> Arc<dyn Bus> {
        match &self.transport {
            Transport::Local(bus) => Arc::new(bus.clone()),
            Transport::Amqp(broker) => broker.orchestrator(),
        }
    }

    pub(crate) fn node_bus(&self, name: &NodeName) -> Arc<dyn Bus> {
        match &self.transport {
            Transport::Local(bus) => Arc::new(bus.clone()),
            Transport::Amqp(broker) => broker.node(name),
        }
    }

    /// Takes the database away: connections are cut and new ones refused; or gives it back.
    pub(crate) async fn database_answers(&self, answers: bool) {
        let Home::Postgres { admin, name } = &self.database else {
            panic!("only a server can go away")
        };
        as_admin(
            admin,
            &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {answers}"),
        )
        .await;
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        as_admin(admin, &cut).await;
    }

    /// Runs a statement behind the orchestrator's back.
    pub(crate) async fn tamper(&self, sql: &str) {
        as_admin(&self.database.url(), sql).await;
    }

    /// Locks what a statement names, as another orchestrator would, until the transaction ends.
    pub(crate) async fn hold(&self, sql: &str) -> DatabaseTransaction {
        let db = Database::connect(self.database.url()).await.unwrap();
        let tx = db.begin().await.unwrap();
        tx.execute_unprepared(sql).await.unwrap();
        tx
    }

    /// A node that takes work.
    pub(crate) async fn node(&self, name: &str) -> FakeNode {
        let mut node = FakeNode::start(self, name).await;
        let mut look = tokio::time::interval(LOOK);
        within("the node is ready", async {
            while self.node_status(name).await != Some(shared::status::NodeStatus::Ready) {
                // One that was lost compares what it should have first.
                node.take_all().await;
                look.tick().await;
            }
        })
        .await;
        node
    }

    pub(crate) async fn node_status(&self, name: &str) -> Option<shared::status::NodeStatus> {
        self.orchestrator()
            .queries()
            .node_by_name(name)
            .await
            .unwrap()
            .map(|node| node.status)
    }

    pub(crate) async fn create(&self, name: &str) -> DeploymentView {
        self.orchestrator()
            .commands()
            .create(git_deployment(name))
            .await
            .unwrap()
    }

    pub(crate) async fn deployment(&self, id: DeploymentId) -> DeploymentView {
        self.orchestrator()
            .queries()
            .deployment_by_id(id)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn latest(&self, id: DeploymentId) -> RevisionView {
        let latest = self.deployment(id).await.latest_revision_id.unwrap();
        self.revision(latest).await
    }

    pub(crate) async fn revision(&self, id: RevisionId) -> RevisionView {
        self.orchestrator()
            .queries()
            .revision_by_id(id)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn history(&self, id: RevisionId) -> Vec<StatusEvent> {
        self.orchestrator()
            .queries()
            .events_of(&[id])
            .await
            .unwrap()
            .remove(&id)
            .unwrap_or_default()
    }

    pub(crate) async fn path(&self, id: RevisionId) -> Vec<ApplicationStatus> {
        self.history(id)
            .await
            .iter()
            .map(|event| event.status)
            .collect()
    }

    /// Waits until a revision stands somewhere.
    pub(crate) async fn until_status(&self, id: RevisionId, status: ApplicationStatus) {
        until(status.as_str(), async || {
            self.revision(id).await.status == status
        })
        .await;
    }

    /// Deploys it once more on its node; the work that ran.
    pub(crate) async fn rerun(
        &self,
        node: &mut FakeNode,
        deployment: &DeploymentView,
    ) -> shared::message::WorkRequest {
        let commands = self.orchestrator().commands();
        commands.redeploy(deployment.id, None).await.unwrap();
        let work = node.next_work().await;
        node.deploy(&work).await;
        self.until_status(work.revision_id, ApplicationStatus::Running)
            .await;
        work
    }

    /// A new deployment that runs on a node.
    pub(crate) async fn running(&self, name: &str, node: &mut FakeNode) -> DeploymentView {
        let deployment = self.create(name).await;
        let work = node.next_work().await;
        node.deploy(&work).await;
        self.until_status(work.revision_id, ApplicationStatus::Running)
            .await;
        self.deployment(deployment.id).await
    }
}

impl Home {
    async fn postgres() -> Self {
        let admin = shared::bus::amqp::test_broker::setting("LONGSHORE_TEST_DATABASE_URL");
        let name = format!("longshore_test_{}", uuid::Uuid::new_v4().simple());
        as_admin(&admin, &format!("CREATE DATABASE {name}")).await;
        Self::Postgres { admin, name }
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!(
                "sqlite://{}",
                directory.path().join("longshore.db").display()
            ),
            Self::Postgres { admin, name } => {
                let (server, _) = admin
                    .rsplit_once('/')
                    .expect("the URL ends with the name of a database");
                format!("{server}/{name}")
            }
        }
    }

    async fn drop(self) {
        match self {
            Self::Sqlite(directory) => directory.close().unwrap(),
            Self::Postgres { admin, name } => {
                as_admin(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await
            }
        }
    }
}

async fn as_admin(url: &str, sql: &str) {
    let db = Database::connect(url).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

/// Waits for something with a limit.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(done) => done,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let mut look = tokio::time::interval(LOOK);
    within(what, async {
        while !holds().await {
            look.tick().await;
        }
    })
    .await;
}

pub(crate) fn git_deployment(name: &str) -> CreateDeployment {
    // Never looked at: these tests have no Git server.
    let git = NewGitSource {
        url: "https://git.example/app.git".to_owned(),
        poll_seconds: Some(0),
        ..NewGitSource::default()
    };
    let source = NewSource {
        git: Some(git),
        image: None,
    };
    CreateDeployment {
        name: name.to_owned(),
        source,
        ..CreateDeployment::default()
    }
}
