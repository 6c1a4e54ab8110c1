//! A node over a bus in memory and the real engine, with a repository to deploy from.

use node::docker::Engine;
use node::git::FetchPolicy;
use node::{Node, NodeSettings};
use shared::bus::local::LocalBus;
use shared::bus::{Address, Bus, Subscription};
use shared::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use shared::message::{
    AdoptWork, Assigned, Assignments, DeployWork, LeasedPort, NodeReport, PortOffer, StatusReport,
    WorkAction, WorkItem, WorkRequest, decode, encode,
};
use shared::name::{DeploymentName, NodeName};
use shared::source::{GitSource, GitUrl, Source};
use shared::status::ApplicationStatus;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// How long anything may take in these tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves its files on port 8000.
pub(crate) const WEB: &str = "FROM busybox\nCOPY index.html /www/index.html\nCMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]\n";

const CONFIG: &str = "[config]\ndockerfile = \"Dockerfile\"\nport = 8000\n";

/// One deployment on a node of its own; everything of it is removed at the end.
pub(crate) struct Stage {
    bus: LocalBus,
    settings: NodeSettings,
    store: StoreIncarnation,
    deployment_id: DeploymentId,
    revision_id: RevisionId,
    revision: i32,
    held: Vec<LeasedPort>,
    fresh: Vec<u16>,
    reports: Arc<Mutex<Vec<StatusReport>>>,
    said: Arc<Mutex<Vec<NodeReport>>>,
    /// How many reports were looked at.
    seen: usize,
    process: Option<(tokio::runtime::Runtime, CancellationToken)>,
    repository: PathBuf,
    dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than usual.
    pub(crate) async fn with(change: impl FnOnce(&mut NodeSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let deployment_id = DeploymentId::new();
        let tail = &deployment_id.0.simple().to_string()[20..];
        let name = NodeName::parse(&format!("test-{tail}")).unwrap();
        let mut settings = NodeSettings::new(name.clone(), dir.path().join("state"));
        settings.child_executable = PathBuf::from(env!("CARGO_BIN_EXE_node-child"));
        settings.fetch_policy = FetchPolicy {
            file_allowed: true,
            ..FetchPolicy::default()
        };
        settings.network_pool = (Ipv4Addr::new(10, 234, 0, 0), 16);
        settings.stop_grace = Duration::from_secs(1);
        change(&mut settings);
        let bus = LocalBus::new();
        bus.declare_work_queue(&name).await.unwrap();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::new(Mutex::new(Vec::new()));
        listen(&bus, reports.clone(), said.clone()).await;
        let repository = dir.path().join("app.git");
        let mut stage = Self {
            bus,
            settings,
            store: StoreIncarnation::new(),
            deployment_id,
            revision_id: RevisionId::new(),
            revision: 0,
            held: Vec::new(),
            fresh: (0..4).map(|_| free_port()).collect(),
            reports,
            said,
            seen: 0,
            process: None,
            repository,
            dir,
        };
        stage.run(
            "git",
            &[
                "init",
                "--quiet",
                "--initial-branch=main",
                &stage.repository.to_string_lossy(),
            ],
        );
        stage.commit(&[("Config.toml", CONFIG)]);
        stage.start().await;
        stage
    }

    pub(crate) async fn start(&mut self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let (settings, bus, token) = (
            self.settings.clone(),
            Arc::new(self.bus.clone()),
            stop.clone(),
        );
        let (started, is_started) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let begun = Instant::now();
            let service = loop {
                match Node::start(settings.clone(), bus.clone(), token.clone()).await {
                    Ok(service) => break service,
                    Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            started.send(()).unwrap();
            service.run().await.unwrap();
        });
        is_started.await.unwrap();
        self.process = Some((runtime, stop));
    }

    /// Ends the node between two instructions.
    pub(crate) fn kill(&mut self) {
        if let Some((runtime, _)) = self.process.take() {
            runtime.shutdown_background();
        }
    }

    /// Writes files into the repository and commits them.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            std::fs::write(self.repository.join(path), text).unwrap();
        }
        let git = |arguments: &[&str]| {
            let mut all = vec![
                "-C",
                self.repository.to_str().unwrap(),
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t.example",
            ];
            all.extend(arguments);
            self.run("git", &all);
        };
        git(&["add", "."]);
        git(&["commit", "--quiet", "--allow-empty", "-m", "a change"]);
    }

    /// Asks for the next revision.
    pub(crate) async fn deploy(&mut self) {
        self.revision += 1;
        self.revision_id = RevisionId::new();
        let source = Source::GitApp(GitSource {
            url: GitUrl::parse(&format!("file://{}", self.repository.display())).unwrap(),
            git_ref: None,
            subdir: None,
            poll_seconds: 0,
        });
        let ports = PortOffer {
            held: self.held.clone(),
            fresh: self.fresh.clone(),
        };
        self.send(WorkAction::Deploy(DeployWork {
            source,
            commit: None,
            method: None,
            ports,
            given: i64::from(self.revision),
        }))
        .await;
    }

    /// Sends work for the newest revision.
    pub(crate) async fn send(&mut self, action: WorkAction) {
        self.seen = self.reports.lock().unwrap().len();
        let request = WorkRequest {
            id: WorkId::new(),
            store: self.store,
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.revision_id,
            revision: self.revision,
            epoch: 1,
            last_report_seq: 0,
            action,
        };
        self.bus
            .publish(
                Address::Work(self.settings.name.clone()),
                encode(&[WorkItem::from(request)]),
            )
            .await
            .unwrap();
    }

    /// Waits until the newest revision is said to stand somewhere, since the last order.
    pub(crate) async fn until(&mut self, status: ApplicationStatus) -> StatusReport {
        self.until_after(0, status).await
    }

    /// The same, of the reports after number `seq`.
    pub(crate) async fn until_after(
        &mut self,
        seq: i32,
        status: ApplicationStatus,
    ) -> StatusReport {
        let begun = Instant::now();
        loop {
            let reports = self.reports.lock().unwrap().clone();
            let news = reports
                .iter()
                .skip(self.seen)
                .filter(|report| report.revision_id == self.revision_id);
            if let Some(report) = news
                .clone()
                .find(|report| report.status == status && report.seq > seq)
            {
                if let Some(ports) = &report.facts.ports {
                    self.held.clone_from(ports);
                }
                return report.clone();
            }
            let failed = news
                .clone()
                .find(|report| report.status == ApplicationStatus::Failed);
            assert!(failed.is_none(), "{failed:#?}");
            assert!(begun.elapsed() < PATIENCE, "never {status}: {reports:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells the node that it should have the newest revision, or nothing.
    pub(crate) async fn tell(&self, as_of: i64, status: Option<ApplicationStatus>) {
        let assigned = status.map(|status| Assigned {
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.revision_id,
            revision: self.revision,
            epoch: 1,
            last_report_seq: 0,
            status,
            destroying: false,
        });
        let told = Assignments {
            store: self.store,
            node: self.settings.name.clone(),
            as_of,
            revisions: assigned.into_iter().collect(),
        };
        self.bus
            .publish(
                Address::Work(self.settings.name.clone()),
                encode(&[WorkItem::Assignments(Box::new(told))]),
            )
            .await
            .unwrap();
    }

    /// Waits until the node said something.
    pub(crate) async fn until_said(&self, is_it: impl Fn(&NodeReport) -> bool) {
        let begun = Instant::now();
        while !self.said.lock().unwrap().iter().any(&is_it) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{:#?}",
                self.said.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Orders the node to take up what it said of the newest revision.
    pub(crate) async fn adopt(&mut self, running: &StatusReport) {
        let facts = running.facts.clone();
        self.send(WorkAction::Adopt(Box::new(AdoptWork {
            commit: facts.commit,
            image_digest: facts.image_digest,
            content_hash: facts.content_hash.unwrap(),
            spec: *facts.spec.unwrap(),
            ports: facts.ports.unwrap(),
            stopped: false,
            given: 1,
        })))
        .await;
    }

    /// Ends the node between two instructions and throws its journal away.
    pub(crate) fn lose_journal(&mut self) {
        self.kill();
        std::fs::remove_file(self.settings.state_dir.join("journal.redb")).unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("127.0.0.1:{}", self.held[0].port)
    }

    /// What the deployment answers on its port.
    pub(crate) async fn get(&self) -> Option<String> {
        get(&self.url()).await.ok()
    }

    pub(crate) async fn until_containers(&self, count: usize) {
        let engine = Engine::new(None).unwrap();
        let begun = Instant::now();
        loop {
            let found = engine.containers(&self.settings.name, None).await.unwrap();
            if found.len() == count {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The ids of the deployment's networks.
    pub(crate) fn networks(&self) -> String {
        let label = format!("label=longshore.deployment={}", self.deployment_id);
        self.docker(&["network", "ls", "--quiet", "--filter", &label])
    }

    pub(crate) async fn check_nothing_is_left(&self) {
        self.until_containers(0).await;
        let id = self.deployment_id.to_string();
        for what in ["network", "volume", "image"] {
            let all = self.docker(&[
                what,
                "ls",
                "--quiet",
                "--filter",
                &format!("label=longshore.deployment={id}"),
            ]);
            assert_eq!(all, "", "{what}");
        }
        assert_eq!(
            self.docker(&["image", "ls", "--quiet", &format!("longshore/{id}")]),
            ""
        );
        for folder in ["mirrors", "work"] {
            let left: Vec<_> = std::fs::read_dir(self.settings.state_dir.join(folder))
                .unwrap()
                .flatten()
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
        assert_eq!(self.get().await, None);
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        self.run("docker", arguments)
    }

    pub(crate) fn run(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> String {
        let done = Command::new(program)
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
        let (deployment_id, settings) = (self.deployment_id, self.settings.clone());
        // A runtime of its own: the test's may be the one that is going down.
        let cleaning = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let forwarder = node::forward::Forwarder::new(node::forward::ForwarderSettings {
                    program: settings.child_executable.clone(),
                    arguments: vec!["forward".into()],
                    state_dir: settings.state_dir.clone(),
                });
                let ended = forwarder.shutdown().await;
                let engine = Engine::new(None).unwrap();
                let purged = engine
                    .purge_deployment(deployment_id, &settings.name, true)
                    .await;
                (ended.is_ok(), purged.is_ok())
            })
        });
        if !matches!(cleaning.join(), Ok((true, true))) {
            eprintln!("something of deployment {deployment_id} may be left");
        }
    }
}

async fn listen(
    bus: &LocalBus,
    reports: Arc<Mutex<Vec<StatusReport>>>,
    said: Arc<Mutex<Vec<NodeReport>>>,
) {
    let mut deliveries = bus.consume(Subscription::Deployment, 100).await.unwrap();
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            for report in decode::<NodeReport>(&delivery.body).unwrap() {
                said.lock().unwrap().push(report.clone());
                if let NodeReport::Status(report) = report {
                    reports.lock().unwrap().push(report);
                }
            }
            delivery.ack().await;
        }
    });
}

/// The body of an HTTP answer.
pub(crate) async fn get(address: &str) -> std::io::Result<String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(body.to_owned())
    };
    tokio::time::timeout(Duration::from_secs(5), ask).await?
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
