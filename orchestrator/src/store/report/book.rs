//! What reports mean: decided over rows in memory, without a database.

use super::super::column::{JsonText, Time, now};
use super::super::entity::{deployment, parked_report};
use super::super::ledger::{Because, Ledger, Standing};
use super::{Ignored, ReportKey, Standings};
use chrono::TimeDelta;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{LeasedPort, ReportFacts, ServiceFacts, StatusReport};
use shared::name::NodeName;
use shared::status::{ApplicationStatus, DesiredState, Outcome, transition};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How much of a detail is kept, in bytes.
const DETAIL_LIMIT: usize = 16 * 1024;

/// The locked rows that a batch of reports touches, and what the batch does to them.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) deployments: HashMap<DeploymentId, deployment::Model>,
    pub(super) standings: Standings,
    parked: BTreeMap<ReportKey, StatusReport>,
    nodes: HashMap<NodeName, NodeId>,
    pub(super) ledger: Ledger,
    pub(super) ignored: Ignored,
    pub(super) effects: Effects,
}

/// What follows from the reports beside the steps of revisions.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Reports that must wait for their predecessors.
    pub(super) park: Vec<StatusReport>,
    /// Reports that waited and need not any longer.
    pub(super) unpark: Vec<ReportKey>,
    /// Deployments that another revision serves now.
    pub(super) activated: BTreeMap<DeploymentId, RevisionId>,
    /// Deployments of which nothing is left anywhere.
    pub(super) destroyed: BTreeSet<DeploymentId>,
    /// Deployments of which nothing is left on a node: its ports are free.
    pub(super) emptied: BTreeSet<(DeploymentId, NodeId)>,
    /// Which ports deployments use on their nodes.
    pub(super) ports: BTreeMap<(DeploymentId, NodeId), PortFacts>,
    /// Revisions that will not use what was reserved for them.
    pub(super) ended: BTreeSet<RevisionId>,
    /// Revisions that run although their deployment was stopped while they were on their way.
    pub(super) to_stop: BTreeSet<RevisionId>,
    /// Nodes that may have something that they should not.
    pub(super) pictures_due: BTreeSet<NodeId>,
    /// How services are.
    pub(super) services: BTreeMap<RevisionId, Vec<ServiceFacts>>,
}

/// Which ports a deployment uses on a node.
#[derive(Debug)]
pub(super) struct PortFacts {
    /// The revision that uses them.
    pub(super) revision_id: RevisionId,
    pub(super) ports: Vec<LeasedPort>,
    /// Whether the revision runs, so that ports that it does not use are not used any more.
    pub(super) settled: bool,
}

impl Book {
    pub(super) fn new(
        deployments: HashMap<DeploymentId, deployment::Model>,
        standings: Vec<Standing>,
        parked: Vec<parked_report::Model>,
        nodes: HashMap<NodeName, NodeId>,
    ) -> Self {
        Self {
            deployments,
            standings: standings
                .into_iter()
                .map(|standing| (standing.id, standing))
                .collect(),
            parked: parked
                .into_iter()
                .map(|row| ((row.revision_id, row.epoch, row.report_seq), row.body.0))
                .collect(),
            nodes,
            ..Self::default()
        }
    }

    /// Takes reports in. For revisions in `overdue` missing predecessors are not waited for.
    pub(super) fn take(&mut self, reports: &[StatusReport], overdue: &BTreeSet<RevisionId>) {
        let mut queues: BTreeMap<RevisionId, BTreeMap<i32, StatusReport>> =
            overdue.iter().map(|id| (*id, BTreeMap::new())).collect();
        for report in reports {
            let queue = queues.entry(report.revision_id).or_default();
            if !self.concerns_us(report) {
                continue;
            }
            match queue.entry(report.seq) {
                Entry::Vacant(vacant) => {
                    vacant.insert(report.clone());
                }
                Entry::Occupied(mut known) => {
                    self.ignored.duplicate += 1;
                    // A node that has forgotten the deployment counts anew, and nothing follows this.
                    if report.status == ApplicationStatus::Destroyed {
                        known.insert(report.clone());
                    }
                }
            }
        }
        for (revision_id, queue) in queues {
            let Some(mut standing) = self.standings.remove(&revision_id) else {
                continue;
            };
            let before = standing.last_report_seq;
            self.work_off(&mut standing, queue, overdue.contains(&revision_id));
            if standing.last_report_seq != before {
                self.ledger.touch(&standing);
            }
            self.standings.insert(revision_id, standing);
            self.consequences();
        }
    }

    /// Whether a report is of this epoch, from the node that holds the revision, and a node's to say.
    fn concerns_us(&mut self, report: &StatusReport) -> bool {
        let node_id = self.nodes.get(&report.node).copied();
        let Some(standing) = self
            .standings
            .get(&report.revision_id)
            .filter(|it| it.deployment_id == report.deployment_id)
        else {
            self.ignored.unknown += 1;
            self.effects.pictures_due.extend(node_id);
            return false;
        };
        if is_unfenced() {
            return report.status.is_reported_by_nodes();
        }
        let reason = if report.epoch < standing.epoch {
            self.effects.pictures_due.extend(node_id);
            &mut self.ignored.stale_epoch
        } else if report.epoch > standing.epoch {
            &mut self.ignored.future_epoch
        } else if standing.node_id.is_none() || standing.node_id != node_id {
            self.effects.pictures_due.extend(node_id);
            &mut self.ignored.other_node
        } else if report.seq < 1 || !report.status.is_reported_by_nodes() {
            &mut self.ignored.illegal
        } else {
            return true;
        };
        *reason += 1;
        false
    }

    /// Applies what is in order, and lets the rest wait.
    fn work_off(
        &mut self,
        standing: &mut Standing,
        mut queue: BTreeMap<i32, StatusReport>,
        overdue: bool,
    ) {
        let waiting = self.parked.extract_if(
            (standing.id, i32::MIN, i32::MIN)..=(standing.id, i32::MAX, i32::MAX),
            |_, _| true,
        );
        let mut waited = BTreeSet::new();
        for (key @ (_, epoch, seq), report) in waiting {
            if epoch == standing.epoch {
                queue.entry(seq).or_insert(report);
                waited.insert(seq);
            } else {
                self.effects.unpark.push(key);
            }
        }
        while let Some((seq, report)) = queue.pop_first() {
            let next = standing.last_report_seq.saturating_add(1);
            if seq > next && !overdue {
                queue.insert(seq, report);
                break;
            }
            if waited.remove(&seq) {
                self.effects.unpark.push((standing.id, standing.epoch, seq));
            }
            if seq < next && self.is_the_end(standing, &report) {
                standing.last_report_seq = next;
                let counted_on = StatusReport {
                    seq: next,
                    ..report
                };
                self.apply(standing, counted_on);
            } else if seq < next && !is_unfenced() {
                self.ignored.duplicate += 1;
            } else {
                standing.last_report_seq = seq;
                self.apply(standing, report);
            }
        }
        self.effects.park.extend(
            queue
                .into_iter()
                .filter(|(seq, _)| !waited.contains(seq))
                .map(|(_, report)| report),
        );
    }

    /// Whether a report ends what is being destroyed. A node that has forgotten the deployment counts
    /// anew, and that nothing is left is true whatever its number; it is applied once all the same,
    /// since nothing follows it.
    fn is_the_end(&self, standing: &Standing, report: &StatusReport) -> bool {
        report.status == ApplicationStatus::Destroyed
            && standing.status != ApplicationStatus::Destroyed
            && self
                .deployments
                .get(&standing.deployment_id)
                .is_some_and(|it| it.desired_state == DesiredState::Destroyed)
    }

    fn apply(&mut self, standing: &mut Standing, report: StatusReport) {
        let status = match (report.status, standing.cancel_into) {
            // It gave up for us; what for, only we know.
            (ApplicationStatus::Cancelled, Some(into)) => into,
            (status, _) => status,
        };
        let destroying = self
            .deployments
            .get(&standing.deployment_id)
            .is_some_and(|it| it.desired_state == DesiredState::Destroyed);
        if status == ApplicationStatus::Destroyed && !destroying {
            self.ignored.illegal += 1;
            return;
        }
        match transition(standing.status, status) {
            Err(_) => {
                self.ignored.illegal += 1;
                return;
            }
            Ok(Outcome::Unchanged) => {
                if let Some(detail) = &report.detail {
                    standing.status_detail = Some(clean(detail, DETAIL_LIMIT));
                }
            }
            Ok(Outcome::Moved) => {
                let because = Because {
                    failure_reason: report.failure_reason,
                    detail: report
                        .detail
                        .as_deref()
                        .map(|detail| clean(detail, DETAIL_LIMIT)),
                    report_seq: Some(report.seq),
                    at: Some(plausible(report.at)),
                };
                if status.is_live() {
                    standing.cancel_into = None;
                    standing.cancel_requested_at = None;
                    self.runs_against_its_wish(standing);
                }
                self.ledger.step(standing, status, because);
            }
        }
        self.learn(standing, report.facts);
    }

    /// A deployment that was stopped while this was on its way, by a cancel that came too late or an
    /// older order that came after the stop: what runs now is to be stopped.
    fn runs_against_its_wish(&mut self, standing: &Standing) {
        let is_stopped = self
            .deployments
            .get(&standing.deployment_id)
            .is_some_and(|it| it.desired_state == DesiredState::Stopped);
        if is_stopped {
            self.effects.to_stop.insert(standing.id);
        }
    }

    /// What the node learnt.
    fn learn(&mut self, standing: &mut Standing, facts: ReportFacts) {
        if let Some(commit) = facts.commit {
            standing.source_version = Some(commit.to_string());
        } else if let Some(digest) = facts.image_digest {
            standing.source_version = Some(digest.to_string());
        }
        if let Some(hash) = facts.content_hash.filter(|hash| is_plain(hash, 64)) {
            standing.content_hash = Some(hash);
        }
        if let Some(spec) = facts.spec {
            standing.spec = Some(JsonText(*spec));
        }
        if let Some(services) = facts.services {
            self.effects.services.insert(standing.id, services);
        }
        if let (Some(ports), Some(node_id)) = (facts.ports, standing.node_id) {
            let settled = standing.status.is_live();
            self.effects.ports.insert(
                (standing.deployment_id, node_id),
                PortFacts {
                    revision_id: standing.id,
                    ports,
                    settled,
                },
            );
        }
    }

    /// What one revision's new standing means for others of its deployment.
    fn consequences(&mut self) {
        let moved: Vec<(RevisionId, ApplicationStatus)> = self.ledger.take_unfollowed();
        for (revision_id, status) in moved {
            match status {
                ApplicationStatus::Running => self.took_over(revision_id),
                ApplicationStatus::Stopped | ApplicationStatus::Completed => {
                    self.first_to_serve(revision_id)
                }
                ApplicationStatus::Destroyed => self.removed(revision_id),
                _ => {}
            }
            if status.is_final() {
                self.effects.ended.insert(revision_id);
            }
        }
        // What was moved here has no further consequences.
        self.ledger.take_unfollowed();
    }

    /// It serves now; what served before is superseded.
    fn took_over(&mut self, revision_id: RevisionId) {
        let Some((deployment_id, number, node_id)) = self
            .standings
            .get(&revision_id)
            .map(|it| (it.deployment_id, it.number, it.node_id))
        else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(&deployment_id) else {
            return;
        };
        let before = deployment.active_revision_id.replace(revision_id);
        self.effects.activated.insert(deployment_id, revision_id);
        let Some(before) = before.filter(|before| *before != revision_id) else {
            return;
        };
        let Some(previous) = self.standings.get_mut(&before) else {
            return;
        };
        if transition(previous.status, ApplicationStatus::Superseded) == Ok(Outcome::Moved) {
            self.ledger.step(
                previous,
                ApplicationStatus::Superseded,
                Because::of(format!("revision {number} took over")),
            );
            self.effects.ended.insert(before);
            self.effects.services.insert(before, Vec::new());
            // Elsewhere nobody else tells its node that it is over.
            let left = previous.node_id.filter(|left| Some(*left) != node_id);
            self.effects.pictures_due.extend(left);
        }
    }

    /// It came to rest without ever serving: it is still what start and restart are about.
    fn first_to_serve(&mut self, revision_id: RevisionId) {
        let Some(deployment_id) = self.standings.get(&revision_id).map(|it| it.deployment_id)
        else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(&deployment_id) else {
            return;
        };
        if deployment.active_revision_id.is_none() {
            deployment.active_revision_id = Some(revision_id);
            self.effects.activated.insert(deployment_id, revision_id);
        }
    }

    /// A node has removed everything of a deployment.
    fn removed(&mut self, revision_id: RevisionId) {
        let Some((deployment_id, Some(node_id))) = self
            .standings
            .get(&revision_id)
            .map(|it| (it.deployment_id, it.node_id))
        else {
            return;
        };
        self.effects.emptied.insert((deployment_id, node_id));
        self.end(deployment_id, |standing| standing.node_id == Some(node_id));
        let is_left = |standing: &Standing| {
            standing.deployment_id == deployment_id
                && standing.status != ApplicationStatus::Destroyed
        };
        if !self
            .standings
            .values()
            .any(|standing| is_left(standing) && standing.node_id.is_some())
        {
            self.end(deployment_id, |_| true);
            self.effects.destroyed.insert(deployment_id);
        }
    }

    fn end(&mut self, deployment_id: DeploymentId, which: impl Fn(&Standing) -> bool) {
        let mut ending: Vec<&mut Standing> = self
            .standings
            .values_mut()
            .filter(|it| {
                it.deployment_id == deployment_id
                    && it.status != ApplicationStatus::Destroyed
                    && which(it)
            })
            .collect();
        ending.sort_by_key(|standing| standing.number);
        for standing in ending {
            self.ledger
                .step(standing, ApplicationStatus::Destroyed, Because::default());
            self.effects.ended.insert(standing.id);
            self.effects.services.insert(standing.id, Vec::new());
        }
    }
}

/// Whether a simulated world has broken the rule that stale and repeated reports change nothing.
fn is_unfenced() -> bool {
    #[cfg(feature = "simulation")]
    if shared::simulation::is_broken(shared::simulation::Rule::Fence) {
        return true;
    }
    false
}

/// A text from a node as it may be kept: cut at a character, without the NUL that Postgres refuses.
pub(in crate::store) fn clean(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

fn is_plain(text: &str, limit: usize) -> bool {
    !text.is_empty() && text.len() <= limit && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A node's clock may be wrong, but not by years: beyond that the time would not even fit a row.
pub(in crate::store) fn plausible(at: Time) -> Time {
    use chrono::SubsecRound;
    let here = now();
    if (at - here).abs() > TimeDelta::days(3650) {
        here
    } else {
        at.trunc_subsecs(6)
    }
}
