//! What people ask of nodes: that they get nothing new, that they are emptied, that they leave the fleet.

use super::dispatch::deployments_lock;
use super::entity::{deployment, node, revision};
use super::fence::{fence, fenced_release};
use super::ledger::{Because, Ledger, Standing, standings_of};
use super::report::deployment_free_names;
use super::revise::repeated;
use super::sql::ROWS_AT_ONCE;
use super::{Store, StoreError, Tx};
use crate::error::CommandError;
use crate::moving::{Tenant, movable};
use sea_orm::sea_query::LockType;
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::name::NodeName;
use shared::status::{ApplicationStatus, DesiredState, FailureReason, NodeStatus};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

#[derive(FromQueryResult)]
struct Concerned {
    id: DeploymentId,
}

#[derive(FromQueryResult)]
struct Removed {
    name: NodeName,
}

#[derive(FromQueryResult)]
struct Ended {
    id: NodeId,
}

impl Store {
    /// Lets a node get nothing new. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn node_cordon(&self, id: NodeId) -> Result<(), CommandError> {
        let tx = self.write().await?;
        in_fleet(&tx, id).await?;
        tx.sql("UPDATE nodes SET cordoned = TRUE WHERE id = ")
            .bind(id)
            .run(&*tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Lets a node get something new again, and ends its draining. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn node_uncordon(&self, id: NodeId) -> Result<(), CommandError> {
        let tx = self.write().await?;
        in_fleet(&tx, id).await?;
        tx.sql("UPDATE nodes SET cordoned = FALSE, drain_until = NULL WHERE id = ")
            .bind(id)
            .run(&*tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Lets a node get nothing new, and what can be elsewhere be moved until `deadline` from now. Asking
    /// again sets another deadline.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn node_drain(&self, id: NodeId, deadline: Duration) -> Result<(), CommandError> {
        let tx = self.write().await?;
        in_fleet(&tx, id).await?;
        tx.sql("UPDATE nodes SET cordoned = TRUE, drain_until = ")
            .later(deadline)
            .push(" WHERE id = ")
            .bind(id)
            .run(&*tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Takes a lost node out of the fleet. What was on its way there is given out again; what served
    /// there and can be elsewhere is moved; what cannot, and what was stopped there, is FAILED; what was
    /// to be destroyed there is. A heartbeat of the same name brings the node back.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when the node is not lost; `UNAVAILABLE`.
    pub async fn node_remove(&self, id: NodeId) -> Result<Vec<StatusEvent>, CommandError> {
        let tx = self.write().await?;
        let deployments = concerned(&tx, id).await?;
        let deployments = deployments_lock(&tx, deployments).await?;
        let standings = standings_of(&tx, deployments.keys().copied()).await?;
        let node = in_fleet(&tx, id).await?;
        if node.status != NodeStatus::Lost {
            return Err(CommandError::conflict(format!(
                "node {} is {}: stop its process first, and remove it once it is LOST; drain it before that to move what can be moved",
                node.name, node.status
            )));
        }
        let mut leaving = Leaving::load(&tx, node, deployments, &standings).await?;
        leaving.decide(standings);
        let steps = leaving.save(&tx).await?;
        tx.commit().await?;
        Ok(steps)
    }

    /// The names of nodes that were removed within `period`: their queues are to be deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_removed(&self, period: Duration) -> Result<Vec<NodeName>, StoreError> {
        let removed: Vec<Removed> = self
            .sql("SELECT name FROM nodes WHERE removed_at > ")
            .earlier(period)
            .all(self.reader())
            .await?;
        Ok(removed.into_iter().map(|removed| removed.name).collect())
    }

    /// The nodes whose draining came to its deadline within `period`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drains_ended(&self, period: Duration) -> Result<Vec<NodeId>, StoreError> {
        let ended: Vec<Ended> = self
            .sql("SELECT id FROM nodes WHERE removed_at IS NULL AND drain_until > ")
            .earlier(period)
            .push(" AND drain_until <= ")
            .now()
            .all(self.reader())
            .await?;
        Ok(ended.into_iter().map(|ended| ended.id).collect())
    }

    /// How many nodes of the fleet there are in each status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes_count(&self) -> Result<HashMap<NodeStatus, i64>, StoreError> {
        let counts: Vec<(NodeStatus, i64)> = node::Entity::find()
            .select_only()
            .column(node::Column::Status)
            .column_as(node::Column::Id.count(), "count")
            .filter(node::Column::RemovedAt.is_null())
            .group_by(node::Column::Status)
            .into_tuple()
            .all(self.reader())
            .await?;
        Ok(counts.into_iter().collect())
    }
}

/// Locks a node that was not removed.
async fn in_fleet(tx: &Tx<'_>, id: NodeId) -> Result<node::Model, CommandError> {
    let found = node::Entity::find_by_id(id)
        .lock(LockType::NoKeyUpdate)
        .one(&**tx)
        .await
        .map_err(StoreError::from)?;
    found
        .filter(|node| node.removed_at.is_none())
        .ok_or_else(|| CommandError::not_found("node", id))
}

/// The deployments that have, or may have, something on a node.
async fn concerned(tx: &Tx<'_>, id: NodeId) -> Result<Vec<DeploymentId>, StoreError> {
    let concerned: Vec<Concerned> = tx
        .sql("SELECT d.id FROM deployments d WHERE d.live_name IS NOT NULL AND (d.node_id = ")
        .bind(id)
        .push(" OR EXISTS (SELECT 1 FROM revisions r WHERE r.deployment_id = d.id AND r.status <> 'DESTROYED' AND r.node_id = ")
        .bind(id)
        .push(")) ORDER BY d.id")
        .all(&**tx)
        .await?;
    Ok(concerned.into_iter().map(|row| row.id).collect())
}

/// A node on its way out of the fleet, and what follows for its deployments.
struct Leaving {
    node: node::Model,
    deployments: HashMap<DeploymentId, deployment::Model>,
    /// The documents of what serves or is stopped there.
    models: HashMap<RevisionId, revision::Model>,
    ledger: Ledger,
    fenced: Vec<RevisionId>,
    /// Deployments of which nothing is left anywhere.
    destroyed: BTreeSet<DeploymentId>,
}

impl Leaving {
    async fn load(
        tx: &Tx<'_>,
        node: node::Model,
        deployments: impl IntoIterator<Item = (DeploymentId, deployment::Model)>,
        standings: &[Standing],
    ) -> Result<Self, StoreError> {
        let settled: Vec<RevisionId> = standings
            .iter()
            .filter(|standing| standing.node_id == Some(node.id) && !standing.status.is_final())
            .map(|standing| standing.id)
            .collect();
        let mut models = HashMap::new();
        for chunk in settled.chunks(ROWS_AT_ONCE) {
            let rows = revision::Entity::find()
                .filter(revision::Column::Id.is_in(chunk.iter().copied()))
                .all(&**tx)
                .await?;
            models.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        Ok(Self {
            node,
            deployments: deployments.into_iter().collect(),
            models,
            ledger: Ledger::default(),
            fenced: Vec::new(),
            destroyed: BTreeSet::new(),
        })
    }

    fn decide(&mut self, standings: Vec<Standing>) {
        let newest_open = newest_open(&standings);
        let elsewhere: BTreeSet<DeploymentId> = standings
            .iter()
            .filter(|standing| standing.node_id.is_some_and(|id| id != self.node.id))
            .map(|standing| standing.deployment_id)
            .collect();
        let here = |standing: &Standing| standing.node_id == Some(self.node.id);
        for mut standing in standings.into_iter().filter(here).collect::<Vec<_>>() {
            let Some(deployment) = self.deployments.get(&standing.deployment_id) else {
                continue;
            };
            if deployment.desired_state == DesiredState::Destroyed {
                if !elsewhere.contains(&deployment.id) {
                    self.destroyed.insert(deployment.id);
                }
                let because = Because::of(format!("its node {} was removed", self.node.name));
                self.ledger
                    .step(&mut standing, ApplicationStatus::Destroyed, because);
            } else if standing.status.is_open() && !standing.is_restarting() {
                let newer = newest_open.get(&standing.deployment_id).copied();
                self.fence(&mut standing, newer);
            } else if !standing.status.is_final() && !self.is_moved(&standing) {
                self.fail(&mut standing);
            }
        }
    }

    /// Whether what serves on a lost node is, or goes on being, made elsewhere.
    fn is_moved(&self, standing: &Standing) -> bool {
        let (Some(deployment), Some(model)) = (
            self.deployments.get(&standing.deployment_id),
            self.models.get(&standing.id),
        ) else {
            return false;
        };
        let tenant = Tenant {
            pinned: deployment.pinned_node.as_ref() == Some(&self.node.name),
            volumes: model.spec.as_ref().is_some_and(|it| it.0.has_volumes()),
            version: repeated(model).is_ok(),
        };
        deployment.desired_state == DesiredState::Running
            && deployment.active_revision_id == Some(standing.id)
            && movable(tenant).is_ok()
    }

    fn fence(&mut self, standing: &mut Standing, newer: Option<i32>) {
        let newer = newer.filter(|number| *number > standing.number);
        let why = format!("its node {} was removed", self.node.name);
        fence(&mut self.ledger, standing, newer, &why);
        self.fenced.push(standing.id);
    }

    fn fail(&mut self, standing: &mut Standing) {
        let because = Because {
            failure_reason: Some(FailureReason::NodeLost),
            ..Because::of(format!(
                "its node {} was removed, with what it kept: redeploy it",
                self.node.name
            ))
        };
        self.ledger
            .step(standing, ApplicationStatus::Failed, because);
    }

    async fn save(self, tx: &Tx<'_>) -> Result<Vec<StatusEvent>, StoreError> {
        fenced_release(tx, &self.fenced).await?;
        deployment_free_names(tx, self.destroyed.iter().copied(), super::column::now()).await?;
        tx.sql("UPDATE deployments SET node_id = NULL WHERE node_id = ")
            .bind(self.node.id)
            .run(&**tx)
            .await?;
        tx.sql("DELETE FROM port_leases WHERE node_id = ")
            .bind(self.node.id)
            .run(&**tx)
            .await?;
        tx.sql("UPDATE work_requests SET finished_at = ")
            .now()
            .push(", refused_reason = 'its node was removed' WHERE finished_at IS NULL AND node_id = ")
            .bind(self.node.id)
            .run(&**tx)
            .await?;
        tx.sql("UPDATE nodes SET removed_at = ")
            .now()
            .push(", cordoned = FALSE, drain_until = NULL, must_reconcile = TRUE, detail = 'it was removed from the fleet', updated_at = ")
            .now()
            .push(" WHERE id = ")
            .bind(self.node.id)
            .run(&**tx)
            .await?;
        let node_id = self.node.id;
        let steps = self.ledger.save(tx).await?;
        tx.sql("DELETE FROM service_states WHERE revision_id IN (SELECT r.id FROM revisions r WHERE r.status = 'FAILED' AND r.node_id = ")
            .bind(node_id)
            .push(")")
            .run(&**tx)
            .await?;
        Ok(steps)
    }
}

/// The number of the newest revision of each deployment that is on its way.
fn newest_open(standings: &[Standing]) -> HashMap<DeploymentId, i32> {
    let mut newest: HashMap<DeploymentId, i32> = HashMap::new();
    for standing in standings
        .iter()
        .filter(|standing| standing.status.is_open())
    {
        let number = newest
            .entry(standing.deployment_id)
            .or_insert(standing.number);
        *number = standing.number.max(*number);
    }
    newest
}
