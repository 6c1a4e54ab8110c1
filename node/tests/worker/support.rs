//! A node that can be started, killed and asked what it said.

use node::runtime::simulated::SimulatedRuntime;
use node::{Node, NodeSettings};
use shared::bus::local::LocalBus;
use shared::bus::{Address, Bus, Subscription};
use shared::id::{DeploymentId, RevisionId, StoreIncarnation, WorkId};
use shared::message::{
    Assigned, Assignments, Heartbeat, LogLine, LogSubject, NodeReport, StatusReport, TelemetryItem,
    TelemetryTopic, WorkItem, WorkRequest, decode, encode,
};
use shared::name::NodeName;
use shared::status::ApplicationStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long anything may take in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node said.
#[derive(Default)]
struct Said {
    reports: Vec<NodeReport>,
    lines: Vec<LogLine>,
    ends: Vec<(LogSubject, i64)>,
    heartbeats: Vec<Heartbeat>,
    held: Vec<WorkId>,
}

/// One node and all around it.
pub(crate) struct Stage {
    pub(crate) bus: LocalBus,
    pub(crate) machine: SimulatedRuntime,
    pub(crate) settings: NodeSettings,
    pub(crate) store: StoreIncarnation,
    said: Arc<Mutex<Said>>,
    process: Option<Process>,
    _state: tempfile::TempDir,
}

/// A node process: everything of it is gone when its runtime is.
struct Process {
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    ended: tokio::sync::oneshot::Receiver<Result<(), node::ServiceError>>,
}

impl Stage {
    /// A stage with a node on it.
    pub(crate) async fn new() -> Self {
        let mut stage = Self::empty().await;
        stage.listen().await;
        stage.start().await;
        stage
    }

    /// A stage on which nobody listens and no node runs yet.
    pub(crate) async fn empty() -> Self {
        let state = tempfile::tempdir().unwrap();
        let name = NodeName::parse("n1").unwrap();
        let mut settings = NodeSettings::new(name.clone(), state.path().join("state"));
        settings.slots = 2;
        settings.stop_grace = Duration::from_secs(1);
        let bus = LocalBus::new();
        bus.declare_work_queue(&name).await.unwrap();
        Self {
            bus,
            machine: SimulatedRuntime::default(),
            settings,
            store: StoreIncarnation::new(),
            said: Arc::default(),
            process: None,
            _state: state,
        }
    }

    /// Hears what is said from now on, and what waits in the queue of reports.
    pub(crate) async fn listen(&self) {
        let mut reports = self
            .bus
            .consume(Subscription::Deployment, 100)
            .await
            .unwrap();
        let topics = vec![TelemetryTopic::Heartbeat, TelemetryTopic::Log];
        let mut telemetry = self
            .bus
            .consume(Subscription::Telemetry(topics), 100)
            .await
            .unwrap();
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Some(delivery) = reports.next().await {
                said.lock()
                    .unwrap()
                    .reports
                    .extend(decode::<NodeReport>(&delivery.body).unwrap());
                delivery.ack().await;
            }
        });
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Some(delivery) = telemetry.next().await {
                for item in decode::<TelemetryItem>(&delivery.body).unwrap() {
                    let mut said = said.lock().unwrap();
                    match item {
                        TelemetryItem::Heartbeat(heartbeat) => said.heartbeats.push(*heartbeat),
                        TelemetryItem::Log(line) => said.lines.push(line),
                        TelemetryItem::LogEnd { subject, lines } => {
                            said.ends.push((subject, lines))
                        }
                        TelemetryItem::Holds(holds) => said.held.extend(holds.work),
                    }
                }
                delivery.ack().await;
            }
        });
    }

    /// Starts the node.
    pub(crate) async fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (ended, is_ended) = tokio::sync::oneshot::channel();
        let (settings, bus, machine, token) = (
            self.settings.clone(),
            self.bus.clone(),
            self.machine.clone(),
            stop.clone(),
        );
        runtime.spawn(async move {
            let begun = Instant::now();
            // The one that was killed gives up its files a moment later.
            let service = loop {
                let world = Arc::new(machine.clone());
                match Node::start_on(
                    settings.clone(),
                    Arc::new(bus.clone()),
                    world,
                    token.clone(),
                )
                .await
                {
                    Ok(service) => break service,
                    Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            started.send(()).unwrap();
            let _ = ended.send(service.run().await);
        });
        is_started.await.unwrap();
        self.process = Some(Process {
            runtime,
            stop,
            ended: is_ended,
        });
    }

    /// Ends the node between two instructions.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().runtime.shutdown_background();
    }

    /// Asks the node to stop.
    pub(crate) async fn stop(&mut self) {
        let process = self.process.take().unwrap();
        process.stop.cancel();
        tokio::time::timeout(PATIENCE, process.ended)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        process.runtime.shutdown_background();
    }

    pub(crate) async fn send(&self, requests: &[&WorkRequest]) {
        self.bus
            .publish(
                Address::Work(self.settings.name.clone()),
                encode(&items(requests)),
            )
            .await
            .unwrap();
    }

    pub(crate) async fn send_bytes(&self, body: &[u8]) {
        self.bus
            .publish(Address::Work(self.settings.name.clone()), body.to_vec())
            .await
            .unwrap();
    }

    /// Tells the node what it should have.
    pub(crate) async fn tell(&self, as_of: i64, revisions: &[Assigned]) {
        let told = self.picture(as_of, revisions);
        self.bus
            .publish(Address::Work(self.settings.name.clone()), encode(&[told]))
            .await
            .unwrap();
    }

    pub(crate) fn picture(&self, as_of: i64, revisions: &[Assigned]) -> WorkItem {
        WorkItem::Assignments(Box::new(Assignments {
            store: self.store,
            node: self.settings.name.clone(),
            as_of,
            revisions: revisions.to_vec(),
        }))
    }

    /// The same, and waits until it is in force.
    pub(crate) async fn tell_and_wait(&self, as_of: i64, revisions: &[Assigned]) {
        let before = self.reconciled(as_of);
        self.tell(as_of, revisions).await;
        self.until("the picture is in force", |stage| {
            (stage.reconciled(as_of) > before).then_some(())
        })
        .await;
    }

    fn reconciled(&self, as_of: i64) -> usize {
        let is_it = |report: &&NodeReport| matches!(report, NodeReport::Reconciled(said) if said.as_of == as_of && said.store == self.store);
        self.reports().iter().filter(is_it).count()
    }

    /// As of which picture it was said that nothing of a deployment is left.
    pub(crate) fn removed(&self, deployment_id: DeploymentId) -> Vec<i64> {
        let of_deployment = |report| match report {
            NodeReport::Removed(removed) if removed.deployment_id == deployment_id => {
                Some(removed.as_of)
            }
            _ => None,
        };
        self.reports()
            .into_iter()
            .filter_map(of_deployment)
            .collect()
    }

    /// Of which revisions it was said that they are missing, and whether they can be adopted.
    pub(crate) fn missing(&self) -> Vec<(RevisionId, bool)> {
        let missing = |report| match report {
            NodeReport::Missing(missing) => Some((missing.revision_id, missing.adoptable)),
            _ => None,
        };
        self.reports().into_iter().filter_map(missing).collect()
    }

    /// Which work the node said that it holds.
    pub(crate) fn held(&self) -> Vec<WorkId> {
        self.said.lock().unwrap().held.clone()
    }

    /// Ends the node and throws its journal away.
    pub(crate) async fn lose_journal(&mut self) {
        self.stop().await;
        std::fs::remove_file(self.settings.state_dir.join("journal.redb")).unwrap();
    }

    pub(crate) fn reports(&self) -> Vec<NodeReport> {
        self.said.lock().unwrap().reports.clone()
    }

    /// The status reports of a revision, in the order in which they came.
    pub(crate) fn statuses(&self, revision: RevisionId) -> Vec<StatusReport> {
        let of_revision = |report| match report {
            NodeReport::Status(status) if status.revision_id == revision => Some(status),
            _ => None,
        };
        self.reports().into_iter().filter_map(of_revision).collect()
    }

    pub(crate) fn words(&self, revision: RevisionId) -> Vec<ApplicationStatus> {
        self.statuses(revision)
            .iter()
            .map(|report| report.status)
            .collect()
    }

    /// The build log of a revision.
    pub(crate) fn log(&self, revision: RevisionId) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let of_revision = |line: &&LogLine| matches!(line.subject, LogSubject::Build { revision_id, .. } if revision_id == revision);
        said.lines
            .iter()
            .filter(of_revision)
            .map(|line| line.text.clone())
            .collect()
    }

    pub(crate) fn log_ended(&self, revision: RevisionId) -> Option<i64> {
        let said = self.said.lock().unwrap();
        said.ends.iter().find_map(|(subject, lines)| match subject {
            LogSubject::Build { revision_id, .. } if *revision_id == revision => Some(*lines),
            _ => None,
        })
    }

    pub(crate) fn service_lines(&self) -> Vec<LogLine> {
        let said = self.said.lock().unwrap();
        said.lines
            .iter()
            .filter(|line| matches!(line.subject, LogSubject::Service(_)))
            .cloned()
            .collect()
    }

    pub(crate) fn heartbeat(&self) -> Option<Heartbeat> {
        self.said.lock().unwrap().heartbeats.last().cloned()
    }

    /// Waits until a revision was reported to stand somewhere.
    pub(crate) async fn until_status(
        &self,
        revision: RevisionId,
        status: ApplicationStatus,
    ) -> StatusReport {
        self.until(&format!("{revision} is {status}"), |stage| {
            stage
                .statuses(revision)
                .into_iter()
                .rfind(|report| report.status == status)
        })
        .await
    }

    /// Sends work and waits until it came to its end.
    pub(crate) async fn does(&self, request: &WorkRequest) {
        self.send(&[request]).await;
        self.until_finished(request).await;
    }

    /// Waits until the node says that it has the request.
    pub(crate) async fn until_accepted(&self, request: &WorkRequest) {
        let accepts = |report: &NodeReport| matches!(report, NodeReport::Accepted(receipt) if receipt.work_id == request.id);
        let is_accepted = |stage: &Self| stage.reports().iter().any(accepts).then_some(());
        self.until("it is accepted", is_accepted).await;
    }

    pub(crate) async fn until_finished(&self, request: &WorkRequest) {
        self.until("work is finished", |stage| {
            let is_it = |report: &NodeReport| matches!(report, NodeReport::Finished(receipt) if receipt.work_id == request.id);
            stage.reports().iter().any(is_it).then_some(())
        })
        .await;
    }

    /// Waits until the machine was asked for a step.
    pub(crate) async fn until_step(&self, step: &str) {
        self.until(step, |stage| {
            stage
                .machine
                .steps()
                .iter()
                .any(|done| done == step)
                .then_some(())
        })
        .await;
    }

    /// Looks again and again until there is something to see.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "never: {what}; said: {:#?}; steps: {:?}",
                self.reports(),
                self.machine.steps()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.runtime.shutdown_background();
        }
    }
}

fn items(requests: &[&WorkRequest]) -> Vec<WorkItem> {
    requests
        .iter()
        .map(|request| WorkItem::from((*request).clone()))
        .collect()
}
