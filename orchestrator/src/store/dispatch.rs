//! Giving revisions to nodes: REQUESTED becomes INITIALIZED together with the raised epoch, the
//! reserved ports and the work request, or not at all.

use super::column::{JsonText, Time, now};
use super::entity::{deployment, node};
use super::lease::offer_ports;
use super::ledger::{Because, Ledger, Standing, standings};
use super::sql::{ROWS_AT_ONCE, clock};
use super::work::{PublishableWork, WORK_LEASE, order, work_insert};
use super::{Store, StoreError, Tx};
use sea_orm::{ActiveValue::Set, FromQueryResult};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::{DeployWork, PortOffer, StatusEvent, WorkAction};
use shared::source::{CommitId, Source};
use shared::status::{ApplicationStatus, DesiredState, Method, NodeStatus};
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// A claimed revision and the node that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The revision.
    pub revision_id: RevisionId,
    /// Its deployment.
    pub deployment_id: DeploymentId,
    /// The node.
    pub node_id: NodeId,
}

/// What was given to nodes.
#[derive(Clone, Debug, Default)]
pub struct Dispatched {
    /// The recorded steps. Assignments that are missing here were no longer this caller's to make.
    pub steps: Vec<StatusEvent>,
    /// The work requests that were recorded, when the caller is to send them.
    pub orders: Vec<PublishableWork>,
}

/// What a revision is made from, beside its standing.
#[derive(FromQueryResult)]
struct Wanted {
    id: RevisionId,
    source: JsonText<Source>,
    method: Option<Method>,
    wanted_commit: Option<String>,
    status: ApplicationStatus,
    claim_token: Option<Uuid>,
}

impl Store {
    /// Gives claimed revisions to nodes. What is no longer REQUESTED, no longer claimed with
    /// `token`, or belongs to a destroyed deployment is left out.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was given to anybody.
    pub async fn dispatch(
        &self,
        token: Uuid,
        assignments: &[Assignment],
    ) -> Result<Dispatched, StoreError> {
        self.give(token, assignments, Sending::Later).await
    }

    /// The same for a caller who sends the work requests itself, at once: they are recorded as sent.
    /// One that is not sent after all is given back with [`Store::work_unsent`], or sent again like
    /// any that its node does not take in time.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was given to anybody.
    pub async fn dispatch_to_send(
        &self,
        token: Uuid,
        assignments: &[Assignment],
    ) -> Result<Dispatched, StoreError> {
        self.give(token, assignments, Sending::Now).await
    }

    async fn give(
        &self,
        token: Uuid,
        assignments: &[Assignment],
        sending: Sending,
    ) -> Result<Dispatched, StoreError> {
        if assignments.is_empty() {
            return Ok(Dispatched::default());
        }
        let tx = self.write().await?;
        let at = now();
        let sent_at = match sending {
            Sending::Later => None,
            Sending::Now => Some(clock(&tx).await?),
        };
        let mut batch = Batch::load(&tx, token, assignments).await?;
        let offers = offer_ports(&tx, &mut batch, at).await?;
        batch.count_placements(&tx).await?;
        let mut ledger = Ledger::default();
        let mut rows = Vec::with_capacity(batch.entries.len());
        let mut orders = Vec::new();
        for entry in &mut batch.entries {
            let (Some(deployment), Some(node)) = (
                batch.deployments.get(&entry.standing.deployment_id),
                batch.nodes.get(&entry.node_id),
            ) else {
                continue;
            };
            entry.begin(&mut ledger);
            let work = WorkAction::Deploy(entry.work(&offers, node.given));
            let order = order(
                self.incarnation(),
                deployment,
                &entry.standing,
                entry.node_id,
                work,
                at,
            );
            let Some(mut row) = order else { continue };
            if sent_at.is_some() {
                row.published_at = Set(sent_at);
                row.leased_until = Set(sent_at.map(|at| at + WORK_LEASE));
                row.attempts = Set(1);
                orders.extend(row.body.try_as_ref().map(|body| PublishableWork {
                    node: node.name.clone(),
                    request: body.0.clone(),
                    attempts: 0,
                }));
            }
            rows.push(row);
        }
        place(&tx, &batch.entries, at).await?;
        let steps = ledger.save(&tx).await?;
        work_insert(&tx, rows).await?;
        shared::fail_point!("orchestrator::dispatch::before_commit");
        tx.commit().await?;
        Ok(Dispatched { steps, orders })
    }
}

/// Who sends what is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Whoever claims it.
    Later,
    /// The caller.
    Now,
}

/// What is given to nodes in one transaction, with its rows locked.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    deployments: HashMap<DeploymentId, deployment::Model>,
    pub(super) nodes: BTreeMap<NodeId, node::Model>,
}

pub(super) struct Entry {
    pub(super) standing: Standing,
    wanted: Wanted,
    pub(super) node_id: NodeId,
}

impl Entry {
    /// The next attempt begins on its node.
    fn begin(&mut self, ledger: &mut Ledger) {
        let standing = &mut self.standing;
        standing.epoch += 1;
        standing.last_report_seq = 0;
        standing.node_id = Some(self.node_id);
        ledger.step(standing, ApplicationStatus::Initialized, Because::default());
    }

    fn work(&self, offers: &HashMap<RevisionId, PortOffer>, given: i64) -> DeployWork {
        // An attempt after the first is about the version that the first one found.
        let wanted = self.wanted.wanted_commit.as_deref();
        let commit = wanted.or(self.standing.source_version.as_deref());
        DeployWork {
            source: self.wanted.source.0.clone(),
            commit: commit.and_then(|commit| CommitId::parse(commit).ok()),
            method: self.wanted.method,
            ports: offers.get(&self.standing.id).cloned().unwrap_or_default(),
            given,
        }
    }
}

impl Batch {
    async fn load(
        tx: &Tx<'_>,
        token: Uuid,
        assignments: &[Assignment],
    ) -> Result<Self, StoreError> {
        let deployments = deployments_lock(
            tx,
            assignments
                .iter()
                .map(|assignment| assignment.deployment_id),
        )
        .await?;
        let standings = standings(
            tx,
            assignments.iter().map(|assignment| assignment.revision_id),
        )
        .await?;
        let mut wanted: HashMap<RevisionId, Wanted> = tx
            // By its id alone, and judged here: by its status the database would go through all that wait.
            .sql("SELECT id, source, method, wanted_commit, status, claim_token FROM revisions WHERE id")
            .one_of(assignments.iter().map(|assignment| assignment.revision_id))
            .all::<Wanted>(&**tx)
            .await?
            .into_iter()
            .filter(|wanted| {
                wanted.status == ApplicationStatus::Requested && wanted.claim_token == Some(token)
            })
            .map(|wanted| (wanted.id, wanted))
            .collect();
        let node_of: HashMap<RevisionId, NodeId> = assignments
            .iter()
            .map(|assignment| (assignment.revision_id, assignment.node_id))
            .collect();
        let nodes: Vec<node::Model> = tx
            .sql("SELECT * FROM nodes n WHERE n.id")
            .one_of(node_of.values().copied().collect::<HashSet<_>>())
            .push(" ORDER BY n.id")
            .locked("n")
            .all(&**tx)
            .await?;
        // Lost since it was chosen: its open work has been taken back, and this would be too late for that.
        let nodes: BTreeMap<_, _> = nodes
            .into_iter()
            .filter(|node| node.status != NodeStatus::Lost && node.removed_at.is_none())
            .map(|node| (node.id, node))
            .collect();
        let entries = standings.into_iter().filter_map(|standing| {
            let wanted = wanted.remove(&standing.id)?;
            let node_id = *node_of.get(&standing.id)?;
            let deployment = deployments.get(&standing.deployment_id)?;
            let alive =
                deployment.desired_state != DesiredState::Destroyed && nodes.contains_key(&node_id);
            alive.then_some(Entry {
                standing,
                wanted,
                node_id,
            })
        });
        Ok(Self {
            entries: entries.collect(),
            deployments,
            nodes,
        })
    }
}

impl Batch {
    /// Counts these placements on their nodes: a picture of a node says up to which of them it knows.
    async fn count_placements(&mut self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let used: HashSet<NodeId> = self.entries.iter().map(|entry| entry.node_id).collect();
        if used.is_empty() {
            return Ok(());
        }
        for id in &used {
            if let Some(node) = self.nodes.get_mut(id) {
                node.given += 1;
            }
        }
        tx.sql("UPDATE nodes SET given = given + 1 WHERE id")
            .one_of(used)
            .run(&**tx)
            .await?;
        Ok(())
    }
}

/// Locks deployments by their ids.
pub(super) async fn deployments_lock(
    tx: &Tx<'_>,
    ids: impl IntoIterator<Item = DeploymentId>,
) -> Result<HashMap<DeploymentId, deployment::Model>, StoreError> {
    let ids: HashSet<_> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<deployment::Model> = tx
        .sql("SELECT * FROM deployments d WHERE d.id")
        .one_of(ids)
        .push(" ORDER BY d.id")
        .locked("d")
        .all(&**tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Writes where the deployments are now.
async fn place(tx: &Tx<'_>, entries: &[Entry], at: Time) -> Result<(), StoreError> {
    for chunk in entries.chunks(ROWS_AT_ONCE) {
        tx.sql("UPDATE deployments SET node_id = v.column2, updated_at = v.column3 FROM ")
            .rows(chunk.iter().map(|entry| {
                [
                    entry.standing.deployment_id.into(),
                    entry.node_id.into(),
                    at.into(),
                ]
            }))
            .push(" WHERE deployments.id = v.column1")
            .run(&**tx)
            .await?;
    }
    Ok(())
}
