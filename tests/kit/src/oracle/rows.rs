//! What the database says, and whether that makes sense in itself.

use crate::services::Database;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Everything that matters, in one statement: one moment, whatever goes on.
const QUERY: &str = "select json_build_object(\
    'deployments', (select coalesce(json_agg(d), '[]') from (select d.id, d.name, d.desired_state, d.active_revision_id, \
        n.name as node, d.live_name is null as gone from deployments d left join nodes n on n.id = d.node_id) d),\
    'revisions', (select coalesce(json_agg(r), '[]') from (select r.id, r.deployment_id, r.number, r.status, r.epoch, \
        r.last_event_seq, n.name as node from revisions r left join nodes n on n.id = r.node_id) r),\
    'events', (select coalesce(json_agg(e order by e.revision_id, e.seq), '[]') from (select revision_id, seq, epoch, status \
        from revision_events) e),\
    'services', (select coalesce(json_agg(s), '[]') from (select revision_id, service, container from service_states) s),\
    'leases', (select coalesce(json_agg(l), '[]') from (select l.port, l.deployment_id, l.state, n.name as node \
        from port_leases l join nodes n on n.id = l.node_id) l),\
    'unfinished', (select count(*) from work_requests where finished_at is null),\
    'parked', (select count(*) from parked_reports))";

/// What the database says.
#[derive(Debug, Deserialize)]
pub(super) struct Rows {
    pub(super) deployments: Vec<Deployment>,
    pub(super) revisions: Vec<Revision>,
    events: Vec<Event>,
    pub(super) services: Vec<Service>,
    leases: Vec<Lease>,
    unfinished: u64,
    parked: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Deployment {
    pub(super) id: String,
    name: String,
    desired_state: String,
    active_revision_id: Option<String>,
    pub(super) node: Option<String>,
    pub(super) gone: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    pub(super) id: String,
    pub(super) deployment_id: String,
    pub(super) number: i64,
    pub(super) status: String,
    pub(super) epoch: i64,
    last_event_seq: i64,
    pub(super) node: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Event {
    revision_id: String,
    seq: i64,
    epoch: i64,
    status: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Service {
    pub(super) revision_id: String,
    pub(super) service: String,
    pub(super) container: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lease {
    port: u16,
    deployment_id: String,
    state: String,
    node: String,
}

impl Rows {
    pub(super) fn read(database: &Database) -> Result<Self, String> {
        serde_json::from_value(database.json(QUERY)?).map_err(|error| error.to_string())
    }

    /// The revision that runs, or is stopped, of each deployment that is there.
    pub(super) fn active(&self) -> impl Iterator<Item = (&Deployment, &Revision)> {
        let revisions: BTreeMap<&str, &Revision> = self
            .revisions
            .iter()
            .map(|revision| (revision.id.as_str(), revision))
            .collect();
        self.deployments
            .iter()
            .filter(|deployment| !deployment.gone)
            .filter_map(move |deployment| {
                let active = deployment.active_revision_id.as_deref()?;
                let revision = *revisions.get(active)?;
                is_live(&revision.status).then_some((deployment, revision))
            })
    }

    /// The node and number of every port that should take connections.
    pub(super) fn open_ports(&self) -> impl Iterator<Item = (&str, u16)> {
        let running: BTreeMap<&str, &str> = self
            .active()
            .filter(|(_, revision)| revision.status == "RUNNING")
            .filter_map(|(deployment, _)| {
                Some((deployment.id.as_str(), deployment.node.as_deref()?))
            })
            .collect();
        self.leases.iter().filter_map(move |lease| {
            let node = *running.get(lease.deployment_id.as_str())?;
            (lease.node == node).then_some((node, lease.port))
        })
    }

    pub(super) fn disagreements(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.unfinished > 0 {
            wrong.push(format!(
                "{} work requests are not finished",
                self.unfinished
            ));
        }
        if self.parked > 0 {
            wrong.push(format!("{} reports wait for others", self.parked));
        }
        wrong.extend(self.deployment_disagreements());
        wrong.extend(self.revision_disagreements());
        wrong.extend(self.lease_disagreements());
        wrong
    }

    fn deployment_disagreements(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for deployment in &self.deployments {
            let live: Vec<&Revision> = self
                .revisions
                .iter()
                .filter(|revision| {
                    revision.deployment_id == deployment.id && is_live(&revision.status)
                })
                .collect();
            let name = &deployment.name;
            match (deployment.gone, live.as_slice()) {
                (true, []) | (false, []) => {}
                (true, _) => wrong.push(format!("{name} is destroyed and has a live revision")),
                (false, [one]) => {
                    if deployment.active_revision_id.as_deref() != Some(&one.id) {
                        wrong.push(format!(
                            "{name}: revision {} is live and not the active one",
                            one.number
                        ));
                    }
                    let wanted = if deployment.desired_state == "STOPPED" {
                        "STOPPED"
                    } else {
                        "RUNNING"
                    };
                    if one.status != wanted {
                        wrong.push(format!(
                            "{name}: revision {} is {}, not {wanted}",
                            one.number, one.status
                        ));
                    }
                    if one.node != deployment.node {
                        wrong.push(format!(
                            "{name} is on {:?}, its revision on {:?}",
                            deployment.node, one.node
                        ));
                    }
                }
                (false, many) => wrong.push(format!("{name} has {} live revisions", many.len())),
            }
            if deployment.desired_state == "DESTROYED" && !deployment.gone {
                wrong.push(format!("{name} should be destroyed and is not"));
            }
        }
        wrong
    }

    fn revision_disagreements(&self) -> Vec<String> {
        let mut events: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            events.entry(&event.revision_id).or_default().push(event);
        }
        let mut wrong = Vec::new();
        for revision in &self.revisions {
            let name = format!("revision {} of {}", revision.number, revision.deployment_id);
            if !is_live(&revision.status) && !is_end(&revision.status) {
                wrong.push(format!("{name} is still {}", revision.status));
            }
            let history = events.remove(revision.id.as_str()).unwrap_or_default();
            wrong.extend(
                history_disagreements(revision, &history).map(|what| format!("{name}: {what}")),
            );
        }
        wrong
    }

    fn lease_disagreements(&self) -> Vec<String> {
        let deployments: BTreeMap<&str, &Deployment> = self
            .deployments
            .iter()
            .map(|deployment| (deployment.id.as_str(), deployment))
            .collect();
        let mut wrong = Vec::new();
        for lease in &self.leases {
            let Lease {
                port, state, node, ..
            } = lease;
            match deployments.get(lease.deployment_id.as_str()) {
                Some(deployment) if deployment.gone => {
                    wrong.push(format!(
                        "port {port} of {node} is leased to {}, which is gone",
                        deployment.name
                    ));
                }
                Some(deployment) if deployment.node.as_ref() != Some(node) => {
                    wrong.push(format!(
                        "port {port} of {node} is leased to {}, which is elsewhere",
                        deployment.name
                    ));
                }
                Some(_) if state == "HELD" => {}
                _ => wrong.push(format!("port {port} of {node} is {state}")),
            }
        }
        wrong
    }
}

/// Gaps, steps that no chart has, and an end that is not where the revision stands.
fn history_disagreements(revision: &Revision, history: &[&Event]) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let seqs: Vec<i64> = history.iter().map(|event| event.seq).collect();
    let wanted: Vec<i64> = (1..=revision.last_event_seq).collect();
    if seqs != wanted {
        wrong.push(format!(
            "its events are {seqs:?} of {}",
            revision.last_event_seq
        ));
    }
    if history
        .first()
        .is_some_and(|first| first.status != "REQUESTED")
    {
        wrong.push("it does not begin with REQUESTED".to_owned());
    }
    for pair in history.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        if to.epoch < from.epoch {
            wrong.push(format!("event {} falls back to epoch {}", to.seq, to.epoch));
        }
        if !is_step(&from.status, &to.status) {
            wrong.push(format!(
                "event {} goes from {} to {}",
                to.seq, from.status, to.status
            ));
        }
    }
    match history.last() {
        Some(last) if last.status == revision.status => {}
        last => wrong.push(format!(
            "it is {}, its last event {:?}",
            revision.status,
            last.map(|last| &last.status)
        )),
    }
    wrong.into_iter()
}

/// Whether there should be containers of it.
fn is_live(status: &str) -> bool {
    matches!(status, "RUNNING" | "DEGRADED" | "STOPPED")
}

fn is_end(status: &str) -> bool {
    matches!(
        status,
        "FAILED" | "CANCELLED" | "SUPERSEDED" | "ROLLED_BACK" | "COMPLETED" | "DESTROYED"
    )
}

/// The chart of the design, written down once more: an oracle that asked the code would agree with it.
fn is_step(from: &str, to: &str) -> bool {
    const WAY: [&str; 7] = [
        "REQUESTED",
        "INITIALIZED",
        "FETCHING",
        "BUILDING",
        "STARTING",
        "VERIFYING",
        "RUNNING",
    ];
    let place = |status: &str| WAY.iter().position(|step| *step == status);
    match (from, to) {
        ("DESTROYED", _) => false,
        (_, "DESTROYED") => true,
        (end, _) if is_end(end) => false,
        // A tool that tells what it learnt says a step again.
        (from, to) if from == to => true,
        (_, "FAILED" | "SUPERSEDED") => true,
        (from, "CANCELLED") => place(from).is_some_and(|place| place < 6),
        ("VERIFYING", "ROLLED_BACK") => true,
        ("STARTING" | "VERIFYING" | "RUNNING", "COMPLETED") => true,
        // A new attempt.
        (_, "REQUESTED" | "INITIALIZED") => true,
        ("RUNNING", "DEGRADED") | ("DEGRADED", "RUNNING") => true,
        ("RUNNING" | "DEGRADED" | "STARTING" | "VERIFYING", "STOPPED") => true,
        ("RUNNING" | "DEGRADED" | "STOPPED", "STARTING") => true,
        (from, to) => match (place(from), place(to)) {
            (Some(here), Some(there)) => here > 0 && here < there,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(status: &str, last_event_seq: i64) -> Revision {
        Revision {
            id: "r".to_owned(),
            deployment_id: "d".to_owned(),
            number: 1,
            status: status.to_owned(),
            epoch: 1,
            last_event_seq,
            node: None,
        }
    }

    fn said(status: &str, history: &[(i64, i64, &str)]) -> Vec<String> {
        let events: Vec<Event> = history
            .iter()
            .map(|(seq, epoch, status)| Event {
                revision_id: "r".to_owned(),
                seq: *seq,
                epoch: *epoch,
                status: (*status).to_owned(),
            })
            .collect();
        let last = events.last().map_or(0, |event| event.seq);
        history_disagreements(&revision(status, last), &events.iter().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_good_history_is_good() {
        let history = [
            (1, 0, "REQUESTED"),
            (2, 1, "INITIALIZED"),
            (3, 1, "FETCHING"),
            (4, 1, "RUNNING"),
        ];
        assert_eq!(said("RUNNING", &history), Vec::<String>::new());
    }

    /// Where a revision stands, its events, and what is said of them.
    type Case<'a> = (&'a str, &'a [(i64, i64, &'a str)], &'a str);

    #[test]
    fn what_is_wrong_with_a_history_is_seen() {
        let cases: [Case<'_>; 5] = [
            (
                "RUNNING",
                &[
                    (1, 0, "REQUESTED"),
                    (3, 1, "INITIALIZED"),
                    (4, 1, "RUNNING"),
                ],
                "of 4",
            ),
            (
                "RUNNING",
                &[(1, 0, "REQUESTED"), (2, 1, "RUNNING")],
                "from REQUESTED to RUNNING",
            ),
            (
                "INITIALIZED",
                &[(1, 2, "REQUESTED"), (2, 1, "INITIALIZED")],
                "falls back",
            ),
            ("FAILED", &[(1, 0, "REQUESTED")], "its last event"),
            ("INITIALIZED", &[(1, 1, "INITIALIZED")], "does not begin"),
        ];
        for (status, history, what) in cases {
            let said = said(status, history);
            assert!(
                said.iter().any(|said| said.contains(what)),
                "{what}: {said:?}"
            );
        }
    }
}
