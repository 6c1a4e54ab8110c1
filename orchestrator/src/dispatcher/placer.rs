//! Gives revisions that are REQUESTED to nodes.

use crate::event::{EventSink, Wake};
use crate::scheduler::{Candidate, Placement, Wish, place};
use crate::store::{Assignment, Claim, PublishableWork, RequestedRevision, Store, StoreError};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many revisions are placed in one transaction.
const BATCH: usize = 400;
/// For how long what is known of nodes is good enough to place by; what is placed meanwhile is counted.
const NODES_GOOD_FOR: Duration = Duration::from_millis(500);
/// How soon what somebody else had in hand is looked at again: nothing else may wake for it.
const AGAIN: Duration = Duration::from_millis(100);
/// How long until a look without a wake-up.
const SWEEP: Duration = Duration::from_secs(5);

/// How far a look at what is new goes back.
const OVERLAP: Duration = Duration::from_millis(500);

/// Gives revisions to nodes.
pub(crate) struct Placer {
    pub(crate) store: Store,
    pub(crate) events: EventSink,
    pub(crate) wake: Arc<Wake>,
    /// What was recorded as sent, for the publisher to send.
    pub(crate) orders: mpsc::Sender<Vec<PublishableWork>>,
}

/// What a look at all that waits came to.
struct Looked {
    /// Where the next look at what is new begins.
    up_to: Option<RevisionId>,
    /// How many others had in hand.
    passed_over: usize,
}

/// Waits until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// The nodes as they were a moment ago, and what was placed on them since.
struct Nodes {
    candidates: Vec<Candidate>,
    read_at: Instant,
}

impl Nodes {
    fn has_ready(&self) -> bool {
        self.candidates.iter().any(Candidate::is_open)
    }
}

impl Placer {
    /// Runs until `stop`. A claim that was taken is always finished or given back.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(SWEEP);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Ids rise with time: what was requested since the last look lies behind it. What lies before
        // it all the same, by another clock for instance, is found by the next look at everything.
        let mut looked_up_to: Option<RevisionId> = None;
        let mut again: Option<Instant> = None;
        loop {
            let after = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.dispatcher.notified() => None,
                _ = look.tick() => None,
                () = self.wake.requested.notified() => looked_up_to,
                () = until(again) => None,
            };
            match self.place_all(after).await {
                Ok(looked) => {
                    looked_up_to = looked.up_to.max(looked_up_to);
                    if after.is_none() || looked.passed_over > 0 {
                        again = (looked.passed_over > 0).then(|| Instant::now() + AGAIN);
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "revisions could not be placed; trying again"
                    );
                    // Some of those that were to be looked at were not.
                    looked_up_to = None;
                }
            }
        }
    }

    /// Looks at every revision that waits, once, beginning after `after`.
    async fn place_all(&self, mut after: Option<RevisionId>) -> Result<Looked, StoreError> {
        let mut nodes: Option<Nodes> = None;
        let mut passed_over = 0;
        loop {
            let requested = self.store.requested(after, BATCH);
            let requested = if after.is_some() && nodes.is_none() {
                // Somebody asked for something: it is there, and goes to a node.
                let (requested, known) = tokio::try_join!(requested, self.nodes())?;
                nodes = Some(known);
                requested
            } else {
                requested.await?
            };
            after = requested.last().map(|revision| revision.id).or(after);
            if !requested.is_empty() {
                let known = match nodes.take() {
                    Some(nodes) if nodes.read_at.elapsed() < NODES_GOOD_FOR => nodes,
                    _ => self.nodes().await?,
                };
                let known = nodes.insert(known);
                passed_over += self.place_batch(&requested, &mut known.candidates).await?;
            }
            // What is requested from here on wakes for itself.
            if requested.len() < BATCH {
                let has_room = nodes.as_ref().is_some_and(Nodes::has_ready);
                let up_to = after.map(|last| if has_room { overlapping(last) } else { last });
                return Ok(Looked { up_to, passed_over });
            }
        }
    }

    async fn nodes(&self) -> Result<Nodes, StoreError> {
        let read_at = Instant::now();
        let candidates = self.store.nodes_for_placement().await?;
        Ok(Nodes {
            candidates,
            read_at,
        })
    }

    /// Gives those that may go to nodes, and says of the others why they wait; how many others had in
    /// hand.
    async fn place_batch(
        &self,
        requested: &[RequestedRevision],
        nodes: &mut [Candidate],
    ) -> Result<usize, StoreError> {
        let leaving = leaving(requested, nodes);
        let sticky = self.store.with_volumes(&leaving).await?;
        let decided = decide(requested, &sticky, nodes);
        self.store.say_why(&decided.waiting).await?;
        if decided.placeable.is_empty() {
            return Ok(0);
        }
        let claim = self.store.claim(&decided.placeable).await?;
        self.give(claim, nodes).await
    }

    async fn give(&self, claim: Claim<'_>, nodes: &mut [Candidate]) -> Result<usize, StoreError> {
        shared::fail_point!("orchestrator::place::after_claim_before_dispatch");
        let mut passed_over = claim.passed_over;
        let sticky = claim
            .with_volumes(&leaving(&claim.revisions, nodes))
            .await?;
        let mut assignments = Vec::new();
        for revision in &claim.revisions {
            match place(&wish(revision, &sticky), nodes) {
                Placement::On(node_id) => {
                    count(nodes, node_id);
                    assignments.push(Assignment {
                        revision_id: revision.id,
                        node_id,
                    });
                }
                // Something changed before it was claimed.
                Placement::Wait(_) => passed_over += 1,
            }
        }
        let dispatched = claim.give(&assignments).await?;
        shared::fail_point!("orchestrator::dispatch::after_commit_before_publish");
        if !dispatched.orders.is_empty() && self.orders.send(dispatched.orders).await.is_err() {
            tracing::debug!("the publisher has ended; work is sent again by whoever comes next");
        }
        if !dispatched.steps.is_empty() {
            metrics::counter!("longshore_revisions_dispatched_total")
                .increment(dispatched.steps.len() as u64);
            measure(&dispatched.steps);
            self.events.steps(dispatched.steps);
        }
        Ok(passed_over)
    }
}

fn wish(revision: &RequestedRevision, sticky: &HashSet<DeploymentId>) -> Wish {
    Wish {
        pinned: revision.pinned_node.clone(),
        current: revision.current_node,
        sticky: sticky.contains(&revision.deployment_id),
    }
}

/// What a look at revisions that wait comes to. What waits for the same as before is in neither: it
/// costs one look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decided {
    /// Those that may get a node, once they are claimed.
    placeable: Vec<RevisionId>,
    /// Those that have another reason to wait. Nothing is given to them, so they need no claim.
    waiting: Vec<(RevisionId, String)>,
}

fn decide(
    requested: &[RequestedRevision],
    sticky: &HashSet<DeploymentId>,
    nodes: &[Candidate],
) -> Decided {
    let mut decided = Decided::default();
    for revision in requested {
        match place(&wish(revision, sticky), nodes) {
            Placement::On(_) => decided.placeable.push(revision.id),
            Placement::Wait(why) if revision.status_detail.as_ref() == Some(&why) => {}
            Placement::Wait(why) => decided.waiting.push((revision.id, why)),
        }
    }
    decided
}

/// The deployments whose node gets nothing new: only of these it matters whether they can leave it.
fn leaving(revisions: &[RequestedRevision], nodes: &[Candidate]) -> Vec<DeploymentId> {
    let is_open = |id: NodeId| nodes.iter().any(|node| node.id == id && node.is_open());
    revisions
        .iter()
        .filter(|revision| revision.pinned_node.is_none())
        .filter(|revision| revision.current_node.is_some_and(|id| !is_open(id)))
        .map(|revision| revision.deployment_id)
        .collect()
}

/// A moment before this revision was requested: transactions do not commit in the order of their
/// ids. What was placed there is not looked at again; with no node ready all of it would be, and a
/// node that becomes ready makes for a look at everything anyway.
fn overlapping(last: RevisionId) -> RevisionId {
    // A UUIDv7 begins with its time in milliseconds.
    let millis = (last.0.as_u128() >> 80).saturating_sub(OVERLAP.as_millis());
    RevisionId(Uuid::from_u128(millis << 80))
}

/// How long revisions waited for a node. Their ids tell when they were asked for.
fn measure(steps: &[StatusEvent]) {
    let waited = metrics::histogram!("longshore_dispatch_seconds");
    for step in steps.iter().filter(|step| step.epoch == 1) {
        if let Some(asked) = step.revision_id.0.get_timestamp() {
            let (seconds, nanos) = asked.to_unix();
            let asked = Duration::new(seconds, nanos).as_secs_f64();
            let given = step.at.timestamp_micros() as f64 / 1e6;
            waited.record((given - asked).max(0.0));
        }
    }
}

/// What is given to a node counts for the next choice.
fn count(nodes: &mut [Candidate], node_id: NodeId) {
    if let Some(node) = nodes.iter_mut().find(|node| node.id == node_id) {
        node.running += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::name::NodeName;
    use shared::status::NodeStatus;

    fn node(name: &str, status: NodeStatus) -> Candidate {
        Candidate {
            id: NodeId::new(),
            name: NodeName::parse(name).unwrap(),
            status,
            detail: None,
            cordoned: false,
            draining: false,
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            cpu_declared_millis: 0,
            memory_declared_bytes: 0,
            running: 0,
        }
    }

    #[test]
    fn only_what_may_get_a_node_is_claimed_and_only_a_new_reason_is_said() {
        let pinned_to = |name: Option<&str>| RequestedRevision {
            id: RevisionId::new(),
            deployment_id: DeploymentId::new(),
            pinned_node: name.map(|name| NodeName::parse(name).unwrap()),
            current_node: None,
            status_detail: None,
        };
        let lost = node("n1", NodeStatus::Lost);
        let mut waiting = vec![
            pinned_to(Some("n1")),
            pinned_to(None),
            RequestedRevision {
                current_node: Some(lost.id),
                ..pinned_to(None)
            },
        ];
        let kept = HashSet::from([waiting[2].deployment_id]);
        let ids: Vec<_> = waiting.iter().map(|revision| revision.id).collect();
        let nodes = [lost.clone()];
        let said = |decided: &Decided| {
            decided
                .waiting
                .iter()
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        };

        let decided = decide(&waiting, &kept, &nodes);
        assert_eq!(decided.placeable, []);
        assert_eq!(said(&decided), ids, "nobody has said why yet");
        for (revision, (_, why)) in waiting.iter_mut().zip(decided.waiting) {
            revision.status_detail = Some(why);
        }
        assert_eq!(decide(&waiting, &kept, &nodes), Decided::default());

        let other = [lost.clone(), node("n2", NodeStatus::Ready)];
        let decided = decide(&waiting, &kept, &other);
        assert_eq!(decided.placeable, ids[1..2], "the others wait for n1");
        assert_eq!(decided.waiting, []);

        let cordoned = [Candidate {
            cordoned: true,
            status: NodeStatus::Ready,
            ..lost
        }];
        let decided = decide(&waiting, &kept, &cordoned);
        assert_eq!(said(&decided), ids, "another reason");
    }

    #[test]
    fn a_look_at_what_is_new_begins_a_moment_before_the_last() {
        let last = RevisionId::new();
        let begins = overlapping(last);
        let millis = |id: RevisionId| id.0.as_u128() >> 80;
        assert_eq!(millis(last) - millis(begins), OVERLAP.as_millis());
        assert_eq!(
            overlapping(RevisionId(Uuid::nil())),
            RevisionId(Uuid::nil())
        );
    }
}
