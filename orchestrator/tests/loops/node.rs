//! A node as the orchestrator sees it: heartbeats, work taken, reports sent. What it does with the
//! work the test says.

use crate::fleet::{Fleet, within};
use chrono::Utc;
use shared::bus::conformance::publish;
use shared::bus::{Address, Bus, Consumer, Subscription};
use shared::id::WorkId;
use shared::message::{
    Assignments, Capacity, DeployWork, Heartbeat, LeasedPort, Load, NodeReport, Reconciled,
    StatusReport, TelemetryItem, TelemetryTopic, WorkAction, WorkItem, WorkReceipt, WorkRequest,
    decode, encode,
};
use shared::name::{NodeName, ServiceName};
use shared::source::{CommitId, ImageRef};
use shared::spec::{DeploymentSpec, HealthSpec, ImageSpec, ServiceSpec};
use shared::status::{ApplicationStatus, Method};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Often enough never to be taken for lost.
const HEARTBEAT: Duration = Duration::from_millis(500);

pub(crate) struct FakeNode {
    pub(crate) name: NodeName,
    bus: Arc<dyn Bus>,
    consumer: Consumer,
    waiting: VecDeque<WorkRequest>,
    seen: HashSet<WorkId>,
    /// The pictures that came, oldest first; each is compared at once.
    pictures: VecDeque<Assignments>,
    _heartbeats: DropGuard,
}

impl FakeNode {
    pub(crate) async fn start(fleet: &Fleet, name: &str) -> Self {
        let name = NodeName::parse(name).unwrap();
        let bus = fleet.node_bus(&name);
        let consumer = bus
            .consume(Subscription::Work(name.clone()), 64)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(beat(Arc::clone(&bus), heartbeat(&name))),
        );
        let (waiting, seen) = (VecDeque::new(), HashSet::new());
        Self {
            name,
            bus,
            consumer,
            waiting,
            seen,
            pictures: VecDeque::new(),
            _heartbeats: stop.drop_guard(),
        }
    }

    /// The next work request that was not seen before.
    pub(crate) async fn next_work(&mut self) -> WorkRequest {
        loop {
            let request = self.next_request().await;
            if self.seen.insert(request.id) {
                return request;
            }
        }
    }

    /// The next work request, also one that came before.
    pub(crate) async fn next_request(&mut self) -> WorkRequest {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return request;
            }
            let delivery = within("work comes", self.consumer.next()).await.unwrap();
            self.take(&delivery.body).await;
            delivery.ack().await;
        }
    }

    /// The next picture of what it should have.
    pub(crate) async fn next_picture(&mut self) -> Assignments {
        loop {
            if let Some(picture) = self.pictures.pop_front() {
                return picture;
            }
            let delivery = within("a picture comes", self.consumer.next())
                .await
                .unwrap();
            self.take(&delivery.body).await;
            delivery.ack().await;
        }
    }

    /// Takes what is there.
    pub(crate) async fn take_all(&mut self) {
        while let Some(delivery) = self.consumer.try_next() {
            self.take(&delivery.body).await;
            delivery.ack().await;
        }
    }

    async fn take(&mut self, body: &[u8]) {
        for item in decode::<WorkItem>(body).unwrap() {
            match item {
                WorkItem::Request(request) => self.waiting.push_back(*request),
                WorkItem::Assignments(picture) => {
                    let reconciled = Reconciled {
                        node: self.name.clone(),
                        store: picture.store,
                        as_of: picture.as_of,
                    };
                    self.say(&[NodeReport::Reconciled(reconciled)]).await;
                    self.pictures.push_back(*picture);
                }
            }
        }
    }

    /// Whether work is there that was not seen before.
    pub(crate) async fn has_new_work(&mut self) -> bool {
        self.take_all().await;
        self.waiting
            .iter()
            .any(|request| !self.seen.contains(&request.id))
    }

    /// Says something, until it is safe.
    pub(crate) async fn say(&self, reports: &[NodeReport]) {
        self.send(encode(reports)).await;
    }

    pub(crate) async fn send(&self, body: Vec<u8>) {
        publish(&*self.bus, Address::Deployment, &body).await;
    }

    pub(crate) async fn say_status(&self, work: &WorkRequest, seq: i32, status: ApplicationStatus) {
        self.say(&[NodeReport::Status(self.status(work, seq, status))])
            .await;
    }

    pub(crate) async fn accept(&self, work: &WorkRequest) {
        self.say(&[NodeReport::Accepted(self.receipt(work))]).await;
    }

    /// Takes a deployment action and reports its whole way.
    pub(crate) async fn deploy(&self, work: &WorkRequest) {
        self.say(&self.whole_way(work)).await;
    }

    /// Everything that is said of a deployment action that goes well.
    pub(crate) fn whole_way(&self, work: &WorkRequest) -> Vec<NodeReport> {
        let mut reports = vec![NodeReport::Accepted(self.receipt(work))];
        reports.extend(self.steps(work).into_iter().map(NodeReport::Status));
        reports.push(NodeReport::Finished(self.receipt(work)));
        reports
    }

    /// The steps of a deployment action that goes well, with what the node learns on the way.
    pub(crate) fn steps(&self, work: &WorkRequest) -> Vec<StatusReport> {
        use ApplicationStatus as S;
        let way = [
            S::Fetching,
            S::Building,
            S::Starting,
            S::Verifying,
            S::Running,
        ];
        let mut steps: Vec<_> = way
            .into_iter()
            .zip(1..)
            .map(|(status, seq)| self.status(work, seq, status))
            .collect();
        steps[1].facts.commit = Some(CommitId::parse(&format!("{:040x}", work.revision)).unwrap());
        steps[1].facts.content_hash = Some(format!("{:064x}", work.revision));
        steps[4].facts.ports = Some(vec![leased_port(work)]);
        steps
    }

    pub(crate) fn status(
        &self,
        work: &WorkRequest,
        seq: i32,
        status: ApplicationStatus,
    ) -> StatusReport {
        StatusReport {
            node: self.name.clone(),
            deployment_id: work.deployment_id,
            revision_id: work.revision_id,
            epoch: work.epoch,
            seq: work.last_report_seq + seq,
            status,
            failure_reason: None,
            detail: None,
            at: Utc::now(),
            facts: shared::message::ReportFacts::default(),
        }
    }

    pub(crate) fn receipt(&self, work: &WorkRequest) -> WorkReceipt {
        WorkReceipt {
            node: self.name.clone(),
            work_id: work.id,
        }
    }
}

async fn beat(bus: Arc<dyn Bus>, heartbeat: Heartbeat) {
    let mut due = tokio::time::interval(HEARTBEAT);
    loop {
        due.tick().await;
        let item = TelemetryItem::Heartbeat(Box::new(Heartbeat {
            at: Utc::now(),
            ..heartbeat.clone()
        }));
        publish(
            &*bus,
            Address::Telemetry(TelemetryTopic::Heartbeat),
            &encode(&[item]),
        )
        .await;
    }
}

fn heartbeat(name: &NodeName) -> Heartbeat {
    Heartbeat {
        node: name.clone(),
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
        started_at: Utc::now(),
        at: Utc::now(),
    }
}

pub(crate) fn deploy_work(work: &WorkRequest) -> &DeployWork {
    match &work.action {
        WorkAction::Deploy(deploy) => deploy,
        other => panic!("not a deployment action: {other:?}"),
    }
}

/// The port that a node takes: the held one, else the first that it is offered.
pub(crate) fn leased_port(work: &WorkRequest) -> LeasedPort {
    let ports = &deploy_work(work).ports;
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

/// What a node resolves a source into.
pub(crate) fn spec() -> DeploymentSpec {
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Pull {
            image: ImageRef::parse("app").unwrap(),
        },
        command: None,
        env: Default::default(),
        ports: vec![8000],
        volumes: Vec::new(),
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
