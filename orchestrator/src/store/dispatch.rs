//! Giving revisions to nodes: REQUESTED becomes INITIALIZED together with the raised epoch, the
//! reserved ports and the work request, or not at all.

use super::claim::{Claim, Held};
use super::column::{JsonText, Time, now};
use super::entity::{deployment, node};
use super::lease::offer_ports;
use super::ledger::{Because, Ledger, Standing};
use super::sql::{ROWS_AT_ONCE, clock};
use super::work::{PublishableWork, WORK_LEASE, order, work_insert};
use super::{StoreError, Tx};
use sea_orm::{ActiveValue::Set, FromQueryResult, Value};
use shared::id::{DeploymentId, NodeId, RevisionId, StoreIncarnation};
use shared::message::{DeployWork, PortOffer, StatusEvent, WorkAction};
use shared::name::DeploymentName;
use shared::source::Source;
use shared::status::{ApplicationStatus, Method, NodeStatus};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A claimed revision and the node that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The revision.
    pub revision_id: RevisionId,
    /// The node.
    pub node_id: NodeId,
}

/// What was given to nodes.
#[derive(Clone, Debug, Default)]
pub struct Dispatched {
    /// The recorded steps. Assignments that are missing here were no longer this caller's to make.
    pub steps: Vec<StatusEvent>,
    /// The work requests, which are recorded as sent: they are the caller's to send.
    pub orders: Vec<PublishableWork>,
}

/// What a revision is made from, beside its standing.
#[derive(Debug, FromQueryResult)]
pub(super) struct Wanted {
    source: JsonText<Source>,
    method: Option<Method>,
    wanted_commit: Option<String>,
}

impl Claim<'_> {
    /// Gives claimed revisions to nodes. What was not claimed, and what was chosen for a node that was
    /// lost meanwhile, is left out.
    ///
    /// The work requests are recorded as sent, for the caller to send at once. One that is not sent
    /// after all is given back with [`super::Store::work_unsent`], or sent again like any that its node does
    /// not take in time.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was given to anybody.
    pub async fn give(self, assignments: &[Assignment]) -> Result<Dispatched, StoreError> {
        let Self {
            tx, store, held, ..
        } = self;
        if assignments.is_empty() {
            return Ok(Dispatched::default());
        }
        let dispatched = give(&tx, store, held, assignments).await?;
        shared::fail_point!("orchestrator::dispatch::before_commit");
        tx.commit().await?;
        Ok(dispatched)
    }
}

async fn give(
    tx: &Tx<'_>,
    store: StoreIncarnation,
    held: HashMap<RevisionId, Held>,
    assignments: &[Assignment],
) -> Result<Dispatched, StoreError> {
    let at = now();
    let sent_at = clock(tx).await?;
    let mut batch = Batch::load(tx, held, assignments).await?;
    let offers = offer_ports(tx, &mut batch, at).await?;
    batch.nodes_save(tx).await?;
    let mut ledger = Ledger::default();
    let mut rows = Vec::with_capacity(batch.entries.len());
    let mut orders = Vec::with_capacity(batch.entries.len());
    for entry in &mut batch.entries {
        let Some(node) = batch.nodes.get(&entry.node_id) else {
            continue;
        };
        entry.begin(&mut ledger);
        let work = WorkAction::Deploy(entry.work(&offers, node.given));
        let (name, standing) = (&entry.deployment_name, &entry.standing);
        let Some(mut row) = order(store, name, standing, entry.node_id, work, at) else {
            continue;
        };
        row.published_at = Set(Some(sent_at));
        row.leased_until = Set(Some(sent_at + WORK_LEASE));
        row.attempts = Set(1);
        orders.extend(row.body.try_as_ref().map(|body| PublishableWork {
            node: node.name.clone(),
            request: body.0.clone(),
            attempts: 0,
        }));
        rows.push(row);
    }
    place(tx, &batch.entries, at).await?;
    let steps = ledger.save(tx).await?;
    work_insert(tx, rows).await?;
    Ok(Dispatched { steps, orders })
}

/// What is given to nodes in one transaction, with its rows locked.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) nodes: BTreeMap<NodeId, node::Model>,
}

pub(super) struct Entry {
    pub(super) standing: Standing,
    deployment_name: DeploymentName,
    wanted: Wanted,
    current_node: Option<NodeId>,
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
        let version = wanted.or(self.standing.source_version.as_deref());
        let source = &self.wanted.source.0;
        let (source, commit) = version
            .and_then(|version| source.clone().pinned(version).ok())
            .unwrap_or_else(|| (source.clone(), None));
        DeployWork {
            source,
            commit,
            method: self.wanted.method,
            ports: offers.get(&self.standing.id).cloned().unwrap_or_default(),
            given,
        }
    }
}

impl Batch {
    async fn load(
        tx: &Tx<'_>,
        mut held: HashMap<RevisionId, Held>,
        assignments: &[Assignment],
    ) -> Result<Self, StoreError> {
        let chosen: HashSet<NodeId> = assignments.iter().map(|it| it.node_id).collect();
        let nodes: Vec<node::Model> = tx
            .sql("SELECT * FROM nodes n WHERE n.id")
            .one_of(chosen)
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
        let entries = assignments
            .iter()
            .filter(|assignment| nodes.contains_key(&assignment.node_id))
            .filter_map(|assignment| {
                let held = held.remove(&assignment.revision_id)?;
                Some(Entry {
                    standing: held.standing,
                    deployment_name: held.deployment_name,
                    wanted: held.wanted,
                    current_node: held.current_node,
                    node_id: assignment.node_id,
                })
            })
            .collect();
        Ok(Self { entries, nodes })
    }
}

impl Batch {
    /// Counts these placements on their nodes, since a picture of a node says up to which of them it
    /// knows, and writes that with where each node's next ports begin.
    async fn nodes_save(&mut self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let used: HashSet<NodeId> = self.entries.iter().map(|entry| entry.node_id).collect();
        let mut rows: Vec<[Value; 3]> = Vec::with_capacity(used.len());
        for node in self
            .nodes
            .values_mut()
            .filter(|node| used.contains(&node.id))
        {
            node.given += 1;
            rows.push([node.id.into(), node.port_cursor.into(), node.given.into()]);
        }
        if rows.is_empty() {
            return Ok(());
        }
        tx.sql("UPDATE nodes SET port_cursor = v.column2, given = v.column3 FROM ")
            .rows(rows)
            .push(" WHERE nodes.id = v.column1")
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

/// Writes where the deployments are now, unless they stay where they were. While a revision serves
/// elsewhere, or is stopped there, the deployment is where that is until another has taken over.
async fn place(tx: &Tx<'_>, entries: &[Entry], at: Time) -> Result<(), StoreError> {
    let moved = entries
        .iter()
        .filter(|entry| entry.current_node != Some(entry.node_id));
    let rows: Vec<[Value; 3]> = moved
        .map(|entry| {
            [
                entry.standing.deployment_id.into(),
                entry.node_id.into(),
                at.into(),
            ]
        })
        .collect();
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        tx.sql("UPDATE deployments SET node_id = v.column2, updated_at = v.column3 FROM ")
            .rows(chunk.iter().cloned())
            .push(
                " WHERE deployments.id = v.column1 AND NOT EXISTS \
                 (SELECT 1 FROM revisions a WHERE a.id = deployments.active_revision_id AND a.is_placed)",
            )
            .run(&**tx)
            .await?;
    }
    Ok(())
}
