//! What must be true in the end: rows, containers, routes, leases and queues agree, and nothing that
//! a user was promised is missing.

use crate::user::{Promise, Promises};
use crate::weather::Who;
use crate::world::{Slot, World};
use node::runtime::simulated::SimulatedContainer;
use orchestrator::store::{DeploymentRow, Picture, RevisionRow};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::status::{
    ApplicationStatus as S, DesiredState, FailureReason, NodeStatus, Outcome, transition,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is not as it must be now; nothing when all is well.
pub(crate) fn judge(world: &World, picture: &Picture, promises: &Promises) -> Vec<String> {
    let mut findings = Findings::default();
    let rows = Rows::of(picture);
    revisions(world, &rows, &mut findings);
    events(picture, &mut findings);
    work(&rows, &mut findings);
    containers(world, &rows, &mut findings);
    leases(&rows, &mut findings);
    messages(world, &mut findings);
    nodes(world, &rows, &mut findings);
    for promise in promises.all() {
        kept(&promise, &rows, &mut findings);
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn expect(&mut self, is_well: bool, otherwise: impl FnOnce() -> String) {
        if !is_well {
            self.0.push(otherwise());
        }
    }
}

/// The rows, to be found by their keys.
struct Rows<'a> {
    picture: &'a Picture,
    deployments: HashMap<DeploymentId, &'a DeploymentRow>,
    revisions: HashMap<RevisionId, &'a RevisionRow>,
    nodes: HashMap<NodeId, String>,
}

impl<'a> Rows<'a> {
    fn of(picture: &'a Picture) -> Self {
        Self {
            picture,
            deployments: picture
                .deployments
                .iter()
                .map(|row| (row.id, row))
                .collect(),
            revisions: picture.revisions.iter().map(|row| (row.id, row)).collect(),
            nodes: picture
                .nodes
                .iter()
                .map(|row| (row.id, row.name.to_string()))
                .collect(),
        }
    }

    /// Whether what is left of a revision that failed is where its deployment is.
    fn is_kept(&self, revision: &RevisionRow) -> bool {
        self.deployments
            .get(&revision.deployment_id)
            .is_some_and(|row| {
                row.active_revision_id == Some(revision.id) && row.node_id == revision.node_id
            })
    }

    fn name(&self, revision: &RevisionRow) -> String {
        let deployment = self.deployments.get(&revision.deployment_id);
        let name = deployment.map(|row| row.name.to_string());
        format!(
            "{}/{} (epoch {})",
            name.unwrap_or_default(),
            revision.number,
            revision.epoch
        )
    }
}

/// Every revision has come to rest, and truly so.
fn revisions(world: &World, rows: &Rows<'_>, findings: &mut Findings) {
    for revision in &rows.picture.revisions {
        let is_at_rest =
            matches!(revision.status, S::Running | S::Stopped) || revision.status.is_final();
        findings.expect(is_at_rest, || {
            let detail = revision.status_detail.clone().unwrap_or_default();
            format!(
                "{} is still {}: {detail}",
                rows.name(revision),
                revision.status
            )
        });
        let version = revision
            .source_version
            .as_deref()
            .and_then(|commit| commit.parse().ok())
            .and_then(|commit| world.repositories.find("", Some(&commit)));
        if let Some(version) = version {
            let is_true = match revision.status {
                S::Running | S::Stopped => version.is_good(),
                S::Failed => {
                    !version.is_good()
                        || world.is_disturbed(revision.deployment_id)
                        // A node that forgot which commit it had fetched goes by the ref again.
                        || (revision.failure_reason == Some(FailureReason::FetchFailed)
                            && world.scenario.faults.journal_wiped)
                        || (revision.failure_reason == Some(FailureReason::NodeLost)
                            && (world.was_left_behind(revision.deployment_id)
                                || was_replaced_unheard(world, rows, revision)))
                }
                _ => true,
            };
            findings.expect(is_true, || {
                let detail = revision.status_detail.clone().unwrap_or_default();
                format!(
                    "{} is {}, which is not true of its version: {detail}",
                    rows.name(revision),
                    revision.status
                )
            });
        }
    }
    for deployment in &rows.picture.deployments {
        let of_it = rows
            .picture
            .revisions
            .iter()
            .filter(|revision| revision.deployment_id == deployment.id);
        let live: Vec<_> = of_it.clone().filter(|it| it.status.is_live()).collect();
        findings.expect(live.len() <= 1, || {
            format!("{} has {} revisions that run", deployment.name, live.len())
        });
        let is_running = live.iter().any(|it| it.status == S::Running);
        let is_obeyed = match deployment.desired_state {
            DesiredState::Running => true,
            DesiredState::Stopped => !is_running,
            DesiredState::Destroyed => of_it.clone().all(|it| it.status == S::Destroyed),
        };
        findings.expect(is_obeyed, || {
            let stand: Vec<_> = of_it.map(|it| it.status.as_str()).collect();
            format!(
                "{} should be {} and has revisions that are {}",
                deployment.name,
                deployment.desired_state,
                stand.join(", ")
            )
        });
    }
}

/// The steps of each revision are numbered without a gap, legal, of epochs that never fall, and the
/// last one is where it stands.
fn events(picture: &Picture, findings: &mut Findings) {
    let mut of_each: BTreeMap<RevisionId, Vec<_>> = BTreeMap::new();
    for event in &picture.events {
        of_each.entry(event.revision_id).or_default().push(event);
    }
    for revision in &picture.revisions {
        let events = of_each.remove(&revision.id).unwrap_or_default();
        let numbered = events.iter().zip(1..).all(|(event, seq)| event.seq == seq);
        findings.expect(numbered, || {
            format!("the events of {} have gaps", revision.id)
        });
        let last = events.last();
        let is_last = last.is_some_and(|last| last.status == revision.status)
            && usize::try_from(revision.last_event_seq) == Ok(events.len());
        findings.expect(is_last, || {
            format!("{} stands where its last event does not say", revision.id)
        });
        for pair in events.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let is_legal = transition(before.status, after.status) == Ok(Outcome::Moved);
            findings.expect(is_legal, || {
                format!(
                    "{} went from {} to {}",
                    revision.id, before.status, after.status
                )
            });
            findings.expect(after.epoch >= before.epoch, || {
                format!("the epoch of {} fell in event {}", revision.id, after.seq)
            });
        }
    }
}

/// Every work request came to its end.
fn work(rows: &Rows<'_>, findings: &mut Findings) {
    for work in &rows.picture.work {
        findings.expect(work.is_finished, || {
            let revision = rows.revisions.get(&work.revision_id);
            let name = revision.map(|revision| rows.name(revision));
            format!(
                "{} of {} is not finished (accepted: {})",
                work.kind,
                name.unwrap_or_default(),
                work.is_accepted
            )
        });
    }
}

/// Containers and rows agree, and so do routes.
fn containers(world: &World, rows: &Rows<'_>, findings: &mut Findings) {
    let mut found: BTreeMap<(String, DeploymentId, i32), Vec<SimulatedContainer>> = BTreeMap::new();
    for slot in world.nodes() {
        for container in slot.machine.containers() {
            let facts = &container.facts;
            let key = (
                slot.who.to_string(),
                facts.deployment_id,
                facts.attempt.revision,
            );
            found.entry(key).or_default().push(container);
        }
        routes(slot, findings);
    }
    for revision in &rows.picture.revisions {
        let node = revision.node_id.and_then(|id| rows.nodes.get(&id)).cloned();
        let key = (
            node.unwrap_or_default(),
            revision.deployment_id,
            revision.number,
        );
        let expected = match revision.status {
            S::Running => Some(true),
            S::Stopped => Some(false),
            // It served, and is kept where it failed until something takes its place.
            S::Failed if rows.is_kept(revision) => Some(false),
            _ => None,
        };
        let Some(is_running) = expected else {
            continue;
        };
        let containers = found.remove(&key).unwrap_or_default();
        // A stopped one that somebody removed by hand is made again when it is started.
        let is_complete = containers.len() == 1 || (!is_running && containers.is_empty());
        findings.expect(is_complete, || {
            format!(
                "{} is {} and has {} containers on {}",
                rows.name(revision),
                revision.status,
                containers.len(),
                key.0
            )
        });
        for container in containers {
            findings.expect(container.state.running == is_running, || {
                format!(
                    "{} is {} and its container {} is running: {}",
                    rows.name(revision),
                    revision.status,
                    container.facts.id,
                    container.state.running
                )
            });
            findings.expect(container.facts.attempt.epoch == revision.epoch, || {
                format!(
                    "{} has a container of epoch {}",
                    rows.name(revision),
                    container.facts.attempt.epoch
                )
            });
        }
    }
    for ((node, deployment, number), mut containers) in found {
        if !world.scenario.demands.stale_containers_go {
            let row = rows
                .picture
                .revisions
                .iter()
                .find(|row| row.deployment_id == deployment && row.number == number);
            let is_stale =
                |it: &SimulatedContainer| row.is_some_and(|row| it.facts.attempt.epoch < row.epoch);
            containers.retain(|container| !is_stale(container));
            if containers.is_empty() {
                continue;
            }
        }
        let name = rows
            .deployments
            .get(&deployment)
            .map(|row| row.name.to_string());
        findings.0.push(format!(
            "{node} has {} containers of {}/{number} that no row knows",
            containers.len(),
            name.unwrap_or_default()
        ));
    }
}

/// Whether a successor was given up without a word of its node: it may have taken this one's place
/// there before it was taken down itself.
fn was_replaced_unheard(world: &World, rows: &Rows<'_>, revision: &RevisionRow) -> bool {
    rows.picture.revisions.iter().any(|other| {
        other.deployment_id == revision.deployment_id
            && other.number > revision.number
            && (other.epoch > 1 || world.scenario.faults.journal_wiped)
            && matches!(other.status, S::Cancelled | S::Superseded)
    })
}

/// Every port leads to a container that runs, and every container that runs is reached.
fn routes(slot: &Slot, findings: &mut Findings) {
    let containers = slot.machine.containers();
    let running: BTreeSet<_> = containers
        .iter()
        .filter(|container| container.state.running)
        .map(|container| container.address)
        .collect();
    let reached: BTreeSet<_> = slot
        .machine
        .routes()
        .iter()
        .map(|route| route.address)
        .collect();
    for address in running.difference(&reached) {
        let facts = containers
            .iter()
            .find(|container| container.address == *address)
            .map(|container| &container.facts);
        findings.0.push(format!(
            "no port of {} leads to {address}, which runs: {facts:?}",
            slot.who
        ));
    }
    for address in reached.difference(&running) {
        let is_stopped = containers
            .iter()
            .any(|container| container.address == *address);
        findings.expect(is_stopped, || {
            format!("a port of {} leads to {address}, which is gone", slot.who)
        });
    }
}

/// Every leased port belongs to a deployment that is not destroyed, and none is only reserved.
fn leases(rows: &Rows<'_>, findings: &mut Findings) {
    for lease in &rows.picture.leases {
        let deployment = rows.deployments.get(&lease.deployment_id);
        let is_living = deployment.is_some_and(|row| row.desired_state != DesiredState::Destroyed);
        findings.expect(is_living, || {
            format!(
                "port {} belongs to a deployment that is destroyed",
                lease.port
            )
        });
        findings.expect(lease.state == "HELD", || {
            format!("port {} is still {}", lease.port, lease.state)
        });
    }
}

/// Nothing waits in a queue, and nothing was refused.
fn messages(world: &World, findings: &mut Findings) {
    let pending = world.broker.pending();
    findings.expect(pending == 0, || {
        format!("{pending} messages wait in queues")
    });
    for (body, reason) in world.broker.refused() {
        let body = String::from_utf8_lossy(&body)
            .chars()
            .take(200)
            .collect::<String>();
        findings
            .0
            .push(format!("a message is dead ({reason}): {body}"));
    }
}

/// Every node is known to be well.
fn nodes(world: &World, rows: &Rows<'_>, findings: &mut Findings) {
    for slot in world.nodes() {
        let Who::Node(_) = slot.who else { continue };
        let name = slot.who.to_string();
        let status = rows
            .picture
            .nodes
            .iter()
            .find(|row| row.name.as_str() == name);
        let status = status.map(|row| row.status);
        findings.expect(status == Some(NodeStatus::Ready), || {
            format!("{name} is {}", status.map_or("unknown", NodeStatus::as_str))
        });
    }
}

/// What a user was promised is there.
fn kept(promise: &Promise, rows: &Rows<'_>, findings: &mut Findings) {
    let Some(id) = promise.id else {
        return;
    };
    let Some(deployment) = rows.deployments.get(&id) else {
        findings
            .0
            .push(format!("{} was promised and is not there", promise.name));
        return;
    };
    for revision in &promise.revisions {
        findings.expect(rows.revisions.contains_key(revision), || {
            format!(
                "a revision of {} was promised and is not there",
                promise.name
            )
        });
    }
    let is_kept = promise.is_unsure || promise.desired == Some(deployment.desired_state);
    findings.expect(is_kept, || {
        format!(
            "{} was promised to be {} and should be {}",
            promise.name,
            promise.desired.map_or("nothing", DesiredState::as_str),
            deployment.desired_state
        )
    });
}
