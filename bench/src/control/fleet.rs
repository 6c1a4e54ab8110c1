//! Simulated nodes: the real wire behaviour of a node's worker, journal and outbox, without a
//! machine behind it. Work is written to a journal and synced before it is acknowledged, each report
//! before it is sent; a node has one message of reports unconfirmed, of at most as many reports as
//! the real outbox sends, and goes on when the broker has it. Every action succeeds at once.
//!
//! What differs: nodes of one group share a connection, a thread and the journal's file, and the
//! steps of a batch of work are synced together, since the disk is the database's here.

use super::amqp::{Connection, Received};
use anyhow::{Context, Result, bail};
use chrono::Utc;
use serde::Serialize;
use shared::message::{
    Capacity, Heartbeat, LeasedPort, Load, NodeReport, ReportFacts, ServiceFacts, StatusReport,
    TelemetryItem, WorkAction, WorkItem, WorkReceipt, WorkRequest, decode, encode,
};
use shared::name::{NodeName, ServiceName};
use shared::source::CommitId;
use shared::spec::{
    About, BuildSpec, DeploymentSpec, HealthSpec, ImageSpec, Lang, Resources, ServiceSpec,
};
use shared::status::{ApplicationStatus as S, Method};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As the real outbox.
const REPORTS_A_MESSAGE: usize = 32;
/// As the real worker.
const PREFETCH: u16 = 32;
/// As real heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How many messages are taken together from one connection.
const TAKE: usize = 256;
/// How many connections the nodes share at most.
const CONNECTIONS: usize = 100;

/// What the nodes saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Work requests, without those that came twice.
    pub(super) accepted: AtomicUsize,
    /// Work requests that came twice.
    pub(super) repeated: AtomicUsize,
    /// When work reached its node, by deployment name.
    pub(super) arrivals: Mutex<Vec<(String, Instant)>>,
}

/// Nodes that run until they are dropped.
pub(super) struct Fleet {
    pub(super) seen: Arc<Seen>,
    listen: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Fleet {
    /// Starts nodes, which say that they are there. They take work after [`Fleet::listen`].
    pub(super) fn start(url: &str, nodes: usize, directory: &Path) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let (listen, stop) = (Arc::default(), Arc::default());
        let groups = nodes.min(CONNECTIONS);
        let mut threads = Vec::new();
        for group in 0..groups {
            let names = (group..nodes)
                .step_by(groups)
                .map(name)
                .collect::<Result<Vec<_>>>()?;
            let mut group = Group {
                connection: Connection::open(url, u16::try_from(names.len() + 1)?)?,
                nodes: names.into_iter().map(Simulated::new).collect(),
                journal: File::create(directory.join(format!("journal-{group}")))?,
                seen: Arc::clone(&seen),
                listening: false,
                next_heartbeat: Instant::now(),
            };
            let (listen, stop) = (Arc::clone(&listen), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || group.run(&listen, &stop)));
        }
        Ok(Self {
            seen,
            listen,
            stop,
            threads,
        })
    }

    /// The nodes' queues exist: they take work from now on.
    pub(super) fn listen(&self) {
        self.listen.store(true, Ordering::Release);
    }

    /// Whether every node is still well.
    pub(super) fn check(&mut self) -> Result<()> {
        let ended = self.threads.iter().position(JoinHandle::is_finished);
        if let Some(ended) = ended {
            join(self.threads.swap_remove(ended)).context("a simulated node ended early")?;
            bail!("a simulated node ended early");
        }
        Ok(())
    }

    /// Ends the nodes.
    pub(super) fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            join(thread)?;
        }
        Ok(())
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("a simulated node panicked"))?
}

fn name(index: usize) -> Result<NodeName> {
    Ok(NodeName::parse(&format!("sim-{index:04}"))?)
}

/// Nodes that share a thread.
struct Group {
    connection: Connection,
    nodes: Vec<Simulated>,
    journal: File,
    seen: Arc<Seen>,
    listening: bool,
    next_heartbeat: Instant,
}

/// One node: its own channel, work it knows, reports that wait.
struct Simulated {
    name: NodeName,
    started_at: chrono::DateTime<Utc>,
    known: HashSet<uuid::Uuid>,
    running: u32,
    /// Journalled reports, as JSON.
    reports: VecDeque<String>,
    /// Whether the broker has yet to confirm the last message.
    is_sending: bool,
}

impl Group {
    fn run(&mut self, listen: &AtomicBool, stop: &AtomicBool) -> Result<()> {
        self.connection
            .read_timeout(Some(Duration::from_millis(50)))?;
        while !stop.load(Ordering::Acquire) {
            if Instant::now() >= self.next_heartbeat {
                self.heartbeats()?;
            }
            if !self.listening && listen.load(Ordering::Acquire) {
                self.listen()?;
            }
            let received = self.connection.receive(TAKE)?;
            self.handle(received)?;
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<()> {
        self.connection.read_timeout(None)?;
        for (index, node) in self.nodes.iter().enumerate() {
            self.connection
                .consume(channel(index)?, &format!("work.{}", node.name), PREFETCH)?;
        }
        self.connection
            .read_timeout(Some(Duration::from_millis(50)))?;
        self.listening = true;
        Ok(())
    }

    fn heartbeats(&mut self) -> Result<()> {
        let last = channel(self.nodes.len())?;
        for node in &self.nodes {
            let item = TelemetryItem::Heartbeat(Box::new(node.heartbeat()));
            self.connection
                .publish(last, ("telemetry", "heartbeat"), &encode(&[item]), false)?;
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT_EVERY;
        Ok(())
    }

    fn handle(&mut self, received: Vec<Received>) -> Result<()> {
        let mut journal = Vec::new();
        let mut acks: BTreeMap<u16, u64> = BTreeMap::new();
        let mut taken: BTreeMap<usize, Vec<WorkRequest>> = BTreeMap::new();
        for received in received {
            match received {
                Received::Delivery { channel, tag, body } => {
                    journal.extend_from_slice(&body);
                    acks.insert(channel, tag);
                    taken
                        .entry(usize::from(channel) - 1)
                        .or_default()
                        .extend(decode::<WorkItem>(&body)?.into_iter().filter_map(request));
                }
                Received::Confirmed { channel, .. } => {
                    if let Some(node) = self.nodes.get_mut(usize::from(channel) - 1) {
                        node.is_sending = false;
                    }
                }
            }
        }
        if !journal.is_empty() {
            self.write(&journal)?;
        }
        for (channel, tag) in acks {
            self.connection.ack_up_to(channel, tag)?;
        }
        let mut said = Vec::new();
        for (index, requests) in taken {
            self.nodes[index].work(requests, &self.seen, &mut said)?;
        }
        if !said.is_empty() {
            self.write(&said)?;
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Some(body) = node.next_message() {
                self.connection
                    .publish(channel(index)?, ("deployment", ""), &body, true)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.journal.write_all(bytes)?;
        Ok(self.journal.sync_data()?)
    }
}

fn channel(index: usize) -> Result<u16> {
    Ok(u16::try_from(index + 1)?)
}

impl Simulated {
    fn new(name: NodeName) -> Self {
        Self {
            name,
            started_at: Utc::now(),
            known: HashSet::new(),
            running: 0,
            reports: VecDeque::new(),
            is_sending: false,
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            node: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            advertise: "127.0.0.1".to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            detail: None,
            engine: Some("simulated".to_owned()),
            capacity: Capacity {
                cpu_millis: 2000,
                memory_bytes: 8 << 30,
                slots: 2,
            },
            load: Load {
                running: self.running,
                ..Load::default()
            },
            started_at: self.started_at,
            at: Utc::now(),
        }
    }

    /// Accepts work and does it: step by step, each step of all of it before the next.
    fn work(
        &mut self,
        requests: Vec<WorkRequest>,
        seen: &Seen,
        journal: &mut Vec<u8>,
    ) -> Result<()> {
        let now = Instant::now();
        let mut fresh = Vec::with_capacity(requests.len());
        for request in requests {
            self.say(&NodeReport::Accepted(self.receipt(&request)), journal)?;
            if self.known.insert(request.id.0) {
                fresh.push(request);
            } else {
                seen.repeated.fetch_add(1, Ordering::Relaxed);
                self.say(&NodeReport::Finished(self.receipt(&request)), journal)?;
            }
        }
        seen.accepted.fetch_add(fresh.len(), Ordering::Relaxed);
        seen.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(
                fresh
                    .iter()
                    .map(|request| (request.deployment_name.to_string(), now)),
            );
        for (step, status) in [
            S::Fetching,
            S::Building,
            S::Starting,
            S::Verifying,
            S::Running,
        ]
        .into_iter()
        .enumerate()
        {
            for request in &fresh {
                let report = self.report(request, i32::try_from(step)? + 1, status)?;
                self.say(&NodeReport::Status(report), journal)?;
                if status == S::Running {
                    self.running += 1;
                    self.say(&NodeReport::Finished(self.receipt(request)), journal)?;
                }
            }
        }
        Ok(())
    }

    fn receipt(&self, request: &WorkRequest) -> WorkReceipt {
        WorkReceipt {
            node: self.name.clone(),
            work_id: request.id,
        }
    }

    fn report(&self, request: &WorkRequest, step: i32, status: S) -> Result<StatusReport> {
        let WorkAction::Deploy(work) = &request.action else {
            anyhow::bail!("only deployments are asked for here")
        };
        let learnt = |facts: ReportFacts| -> Result<ReportFacts> {
            Ok(ReportFacts {
                commit: Some(CommitId::parse(&"c".repeat(40))?),
                content_hash: Some("a".repeat(64)),
                spec: Some(Box::new(spec())),
                ..facts
            })
        };
        let facts = match status {
            S::Building => learnt(ReportFacts::default())?,
            S::Running => learnt(ReportFacts {
                ports: Some(vec![LeasedPort {
                    port: *work.ports.fresh.first().context("a port")?,
                    container_port: 8000,
                    service: ServiceName::app(),
                }]),
                services: Some(vec![ServiceFacts {
                    name: ServiceName::app(),
                    status,
                    image: format!("longshore/{}:aaaaaaaaaaaa", request.deployment_id),
                    container: Some(request.revision_id.to_string()),
                    restarts: 0,
                }]),
                ..ReportFacts::default()
            })?,
            _ => ReportFacts::default(),
        };
        Ok(StatusReport {
            node: self.name.clone(),
            deployment_id: request.deployment_id,
            revision_id: request.revision_id,
            epoch: request.epoch,
            seq: request.last_report_seq + step,
            status,
            failure_reason: None,
            detail: None,
            at: Utc::now(),
            facts,
        })
    }

    fn say(&mut self, report: &impl Serialize, journal: &mut Vec<u8>) -> Result<()> {
        let text = serde_json::to_string(report)?;
        journal.extend_from_slice(text.as_bytes());
        self.reports.push_back(text);
        Ok(())
    }

    /// The next message of reports, when the one before is confirmed.
    fn next_message(&mut self) -> Option<Vec<u8>> {
        if self.is_sending || self.reports.is_empty() {
            return None;
        }
        let count = self.reports.len().min(REPORTS_A_MESSAGE);
        let items: Vec<String> = self.reports.drain(..count).collect();
        self.is_sending = true;
        Some(format!("{{\"v\":1,\"items\":[{}]}}", items.join(",")).into_bytes())
    }
}

/// What is to be done; pictures of a node say nothing new here.
fn request(item: WorkItem) -> Option<WorkRequest> {
    match item {
        WorkItem::Request(request) => Some(*request),
        WorkItem::Assignments(_) => None,
    }
}

/// What each deployment resolves into.
fn spec() -> DeploymentSpec {
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Build(BuildSpec::BuiltIn {
            lang: Lang::Static,
            run: None,
        }),
        command: None,
        env: BTreeMap::new(),
        ports: vec![8000],
        volumes: Vec::new(),
        health: HealthSpec::default(),
        resources: Resources::default(),
        domain: None,
    };
    DeploymentSpec {
        services: vec![service],
        method: Method::Rolling,
        about: About::default(),
    }
}
