//! Leases of work: a node that has an order says so from time to time. What nobody says anything of
//! any longer is given out again, a bounded number of times.

use super::assignments::assignments_due;
use super::column::WorkKind;
use super::dispatch::deployments_lock;
use super::entity::deployment;
use super::fence::{fence, fenced_release, newest_open};
use super::ledger::{Ledger, Standing, standings};
use super::sql::ROWS_AT_ONCE;
use super::work::{WORK_LEASE, is_sent_once};
use super::{Store, StoreError, Tx};
use sea_orm::FromQueryResult;
use shared::id::{DeploymentId, NodeId, RevisionId, WorkId};
use shared::message::{Holds, StatusEvent, WorkRefused};
use shared::name::NodeName;
use shared::status::{ApplicationStatus, DesiredState};
use std::collections::{BTreeSet, HashMap};

/// How many orders are judged in one transaction.
const ORDERS_AT_ONCE: usize = 500;

/// What became of orders whose leases ended, or that were refused.
#[derive(Clone, Debug, Default)]
pub struct WorkTakenBack {
    /// The recorded steps, in order.
    pub steps: Vec<StatusEvent>,
    /// How many orders are sent again as they are.
    pub sent_again: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// An order that its node is not at.
#[derive(Clone, FromQueryResult)]
struct Order {
    id: WorkId,
    kind: WorkKind,
    node_id: NodeId,
    node: NodeName,
    is_lost: bool,
    deployment_id: DeploymentId,
    revision_id: RevisionId,
    epoch: i32,
    refused_reason: Option<String>,
}

const ORDER: &str = "SELECT w.id, w.kind, w.node_id, n.name AS node, (n.status = 'LOST') AS is_lost, w.deployment_id, \
                     w.revision_id, w.epoch, w.refused_reason FROM work_requests w JOIN nodes n ON n.id = w.node_id WHERE ";

impl Order {
    /// Whether the revision hangs on it: it runs only once this is done.
    fn is_placement(&self) -> bool {
        matches!(self.kind, WorkKind::Deploy | WorkKind::Adopt)
    }

    /// Why it is taken back, for people.
    fn why(&self) -> String {
        let node = &self.node;
        match &self.refused_reason {
            Some(reason) => format!("node {node} refused it: {reason}"),
            None if self.is_lost => format!("node {node} was lost"),
            None => {
                let silence = WORK_LEASE.as_secs();
                format!("node {node} said nothing of it for {silence} s")
            }
        }
    }
}

impl Store {
    /// Renews the leases of what nodes say they have. Only those that have less than half left are
    /// written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn work_held(&self, holds: &[Holds]) -> Result<(), StoreError> {
        for hold in holds {
            for chunk in hold.work.chunks(ROWS_AT_ONCE) {
                let tx = self.write().await?;
                tx.sql("UPDATE work_requests SET leased_until = ")
                    .later(WORK_LEASE)
                    .push(" WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until < ")
                    .later(WORK_LEASE / 2)
                    .push(") AND node_id = (SELECT n.id FROM nodes n WHERE n.name = ")
                    .bind(hold.node.clone())
                    .push(") AND id")
                    .one_of(chunk.iter().copied())
                    .run(&*tx)
                    .await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Takes back orders whose leases have ended: the revision of a deployment action is fenced, to be
    /// given out again; anything else is sent again as it is. With `only_lost`, looks only at nodes
    /// that are lost: whoever has not listened for as long as a lease may have missed what renews it.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was taken back.
    pub async fn work_expire(&self, only_lost: bool) -> Result<WorkTakenBack, StoreError> {
        let tx = self.write().await?;
        // The clock is read once, or Postgres would look at every lease instead of at the ended ones.
        let ended = "w.finished_at IS NULL AND w.leased_until < (SELECT ";
        let lost = if only_lost {
            " AND n.status = 'LOST'"
        } else {
            ""
        };
        let seen: Vec<Order> = tx
            .sql(ORDER)
            .push(ended)
            .now()
            .push(")")
            .push(lost)
            .push(" ORDER BY w.leased_until, w.id LIMIT ")
            .bind(ORDERS_AT_ONCE as i64)
            .all(&*tx)
            .await?;
        if seen.is_empty() {
            return Ok(WorkTakenBack::default());
        }
        let locks = Locks::take(&tx, &seen).await?;
        // What was renewed or ended while we waited for the locks is not ours any longer. Not locked:
        // nodes come first in the order of locks, and a lease that is renewed in this very moment was
        // silent for as long as one that is not.
        let orders: Vec<Order> = tx
            .sql(ORDER)
            .push(ended)
            .now()
            .push(")")
            .push(lost)
            .push(" AND w.id")
            .one_of(seen.iter().map(|order| order.id))
            .push(" ORDER BY w.id")
            .all(&*tx)
            .await?;
        let (placements, others): (Vec<Order>, Vec<Order>) =
            orders.into_iter().partition(Order::is_placement);
        let steps = locks.fence(&tx, &placements).await?;
        close(&tx, &placements).await?;
        send_again(&tx, &others).await?;
        tx.commit().await?;
        Ok(WorkTakenBack {
            steps,
            sent_again: others.len(),
            more: seen.len() == ORDERS_AT_ONCE,
        })
    }

    /// Fences the revisions whose deployment action was refused at their present attempt. What was
    /// refused is recorded before, by [`Store::work_refused`]; a second call changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was fenced.
    pub async fn work_refused_fence(
        &self,
        refused: &[WorkRefused],
    ) -> Result<WorkTakenBack, StoreError> {
        let mut taken_back = WorkTakenBack::default();
        for chunk in refused.chunks(ORDERS_AT_ONCE) {
            let tx = self.write().await?;
            let orders: Vec<Order> = tx
                .sql(ORDER)
                .push("w.refused_reason IS NOT NULL AND w.kind IN ('DEPLOY', 'ADOPT') AND w.id")
                .one_of(chunk.iter().map(|refused| refused.work_id))
                .push(" ORDER BY w.id")
                .all(&*tx)
                .await?;
            if orders.is_empty() {
                continue;
            }
            let locks = Locks::take(&tx, &orders).await?;
            taken_back.steps.extend(locks.fence(&tx, &orders).await?);
            tx.commit().await?;
        }
        Ok(taken_back)
    }
}

/// The locked rows that orders are about.
struct Locks {
    deployments: HashMap<DeploymentId, deployment::Model>,
    standings: HashMap<RevisionId, Standing>,
}

impl Locks {
    async fn take(tx: &Tx<'_>, orders: &[Order]) -> Result<Self, StoreError> {
        let placements: Vec<&Order> = orders.iter().filter(|order| order.is_placement()).collect();
        let deployments =
            deployments_lock(tx, placements.iter().map(|order| order.deployment_id)).await?;
        let revisions: BTreeSet<RevisionId> =
            placements.iter().map(|order| order.revision_id).collect();
        let rows = standings(tx, revisions).await?;
        Ok(Self {
            deployments,
            standings: rows.into_iter().map(|row| (row.id, row)).collect(),
        })
    }

    /// Fences the revisions that still hang on these orders; their nodes are told what they should
    /// have.
    async fn fence(
        mut self,
        tx: &Tx<'_>,
        orders: &[Order],
    ) -> Result<Vec<StatusEvent>, StoreError> {
        let newest = newest_open(tx, orders.iter().map(|order| order.deployment_id)).await?;
        let mut ledger = Ledger::default();
        let (mut fenced, mut nodes) = (Vec::new(), BTreeSet::new());
        for order in orders {
            let is_wanted = self
                .deployments
                .get(&order.deployment_id)
                .is_some_and(|it| it.desired_state != DesiredState::Destroyed);
            let Some(standing) = self.standings.get_mut(&order.revision_id) else {
                continue;
            };
            if !is_wanted || !hangs_on(standing, order) {
                continue;
            }
            let newer = newest
                .get(&order.deployment_id)
                .copied()
                .filter(|number| *number > standing.number);
            fence(&mut ledger, standing, newer, &order.why());
            fenced.push(standing.id);
            nodes.insert(order.node_id);
        }
        fenced_release(tx, &fenced).await?;
        let steps = ledger.save(tx).await?;
        assignments_due(tx, nodes).await?;
        Ok(steps)
    }
}

/// Whether a revision still waits for what this order was to do.
fn hangs_on(standing: &Standing, order: &Order) -> bool {
    let is_its_order = standing.epoch == order.epoch && standing.node_id == Some(order.node_id);
    let waits = match order.kind {
        WorkKind::Adopt => !standing.status.is_final(),
        _ => {
            standing.status != ApplicationStatus::Requested
                && standing.status.is_open()
                && !standing.is_restarting()
        }
    };
    is_its_order && waits
}

async fn close(tx: &Tx<'_>, orders: &[Order]) -> Result<(), StoreError> {
    if orders.is_empty() {
        return Ok(());
    }
    tx.sql("UPDATE work_requests SET finished_at = ")
        .now()
        .push(", refused_reason = COALESCE(refused_reason, 'lease expired') WHERE finished_at IS NULL AND id")
        .one_of(orders.iter().map(|order| order.id))
        .run(&**tx)
        .await?;
    Ok(())
}

/// As if it had never been sent: the publisher sees to it.
async fn send_again(tx: &Tx<'_>, orders: &[Order]) -> Result<(), StoreError> {
    if orders.is_empty() || is_sent_once() {
        return Ok(());
    }
    tx.sql("UPDATE work_requests SET accepted_at = NULL, published_at = NULL, leased_until = NULL WHERE finished_at IS NULL AND id")
        .one_of(orders.iter().map(|order| order.id))
        .run(&**tx)
        .await?;
    Ok(())
}
