//! Starting, stopping, restarting and destroying: the wish, and the work requests that follow from it.

use super::acting::{Acted, Acting};
use super::column::{JsonText, WorkKind, now};
use super::entity::deployment;
use super::ledger::{Because, Standing, standings_of};
use super::report::deployment_free_names;
use super::revise::living;
use super::work::order;
use super::{Store, StoreError, Tx};
use crate::error::CommandError;
use sea_orm::{ActiveValue::Set, EntityTrait, FromQueryResult};
use shared::id::{DeploymentId, NodeId};
use shared::message::{ServiceSelection, WorkAction};
use shared::name::{NodeName, ServiceName};
use shared::spec::DeploymentSpec;
use shared::status::{ApplicationStatus, DesiredState};
use std::collections::{BTreeMap, BTreeSet};

impl Store {
    /// Starts what was stopped; all services when none is named.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to start; `UNAVAILABLE`.
    pub async fn deployment_start(
        &self,
        id: DeploymentId,
        services: Vec<ServiceName>,
    ) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, id).await?;
        let revisions = Revisions::load(&tx, &deployment).await?;
        check_services(&tx, &deployment, &revisions, &services).await?;
        let mut acting = Acting::new(self.incarnation(), &deployment);
        match &revisions.acting {
            Some(acted)
                if services.is_empty()
                    && acted.status != ApplicationStatus::Stopped
                    && deployment.desired_state == DesiredState::Running => {}
            Some(acted) => {
                has_its_node(&tx, &deployment, acted).await?;
                acting.order(acted, WorkAction::Start(ServiceSelection { services }));
            }
            // What is being given up does not come back: its node may have ended it already.
            None if revisions
                .open
                .iter()
                .any(|open| open.cancel_requested_at.is_none()) => {}
            None => {
                return Err(CommandError::conflict(format!(
                    "nothing of `{}` can be started: redeploy it",
                    deployment.name
                )));
            }
        }
        wish(&tx, &deployment, DesiredState::Running).await?;
        let acted = acting.save(&tx).await?;
        tx.commit().await?;
        Ok(acted)
    }

    /// Stops containers and keeps them; all services when none is named, and then what is on its way
    /// is given up too.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to stop; `UNAVAILABLE`.
    pub async fn deployment_stop(
        &self,
        id: DeploymentId,
        services: Vec<ServiceName>,
    ) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, id).await?;
        let mut revisions = Revisions::load(&tx, &deployment).await?;
        check_services(&tx, &deployment, &revisions, &services).await?;
        if revisions.acting.is_none() && revisions.open.is_empty() {
            return Err(CommandError::conflict(format!(
                "nothing of `{}` runs",
                deployment.name
            )));
        }
        let mut acting = Acting::new(self.incarnation(), &deployment);
        let whole = services.is_empty();
        let asked_before = whole
            && deployment.desired_state == DesiredState::Stopped
            && is_on_its_way(&tx, id, &[WorkKind::Stop]).await?;
        // What stands still now, and was asked to start before, would not for long.
        let is_to_start = is_on_its_way(&tx, id, &[WorkKind::Start, WorkKind::Restart]).await?;
        let stands_still =
            |acted: &Standing| whole && acted.status == ApplicationStatus::Stopped && !is_to_start;
        if let Some(acted) = revisions
            .acting
            .as_ref()
            .filter(|acted| !asked_before && !stands_still(acted))
        {
            acting.order(acted, WorkAction::Stop(ServiceSelection { services }));
        }
        if whole {
            for open in &mut revisions.open {
                acting.ask(
                    open,
                    ApplicationStatus::Cancelled,
                    "the deployment was stopped",
                );
            }
            wish(&tx, &deployment, DesiredState::Stopped).await?;
        }
        let acted = acting.save(&tx).await?;
        tx.commit().await?;
        Ok(acted)
    }

    /// Stops and starts containers; all services when none is named.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to restart; `UNAVAILABLE`.
    pub async fn deployment_restart(
        &self,
        id: DeploymentId,
        services: Vec<ServiceName>,
    ) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, id).await?;
        let revisions = Revisions::load(&tx, &deployment).await?;
        check_services(&tx, &deployment, &revisions, &services).await?;
        let Some(acted) = &revisions.acting else {
            return Err(CommandError::conflict(format!(
                "nothing of `{}` runs: there is nothing to restart",
                deployment.name
            )));
        };
        has_its_node(&tx, &deployment, acted).await?;
        let mut acting = Acting::new(self.incarnation(), &deployment);
        acting.order(acted, WorkAction::Restart(ServiceSelection { services }));
        wish(&tx, &deployment, DesiredState::Running).await?;
        let acted = acting.save(&tx).await?;
        tx.commit().await?;
        Ok(acted)
    }

    /// Removes everything of a deployment. Where no node has anything of it, it is gone at once; else
    /// each node that has is asked, and the last answer frees the name. A lost node that has only what
    /// is over is not waited for: when it is back it is told what it should have.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it is or is being destroyed already; `UNAVAILABLE`.
    pub async fn deployment_destroy(
        &self,
        id: DeploymentId,
        volumes: bool,
    ) -> Result<Acted, CommandError> {
        let tx = self.write().await?;
        let deployment = living(&tx, id).await?;
        wish(&tx, &deployment, DesiredState::Destroyed).await?;
        let mut acting = Acting::new(self.incarnation(), &deployment);
        let mut by_node: BTreeMap<Option<NodeId>, Vec<Standing>> = BTreeMap::new();
        for standing in standings_of(&tx, [id]).await? {
            by_node.entry(standing.node_id).or_default().push(standing);
        }
        let lost = lost_of(&tx, by_node.keys().flatten().copied()).await?;
        let mut is_asked = false;
        for (node_id, mut standings) in by_node {
            let is_over = node_id.is_none_or(|node_id| lost.contains(&node_id))
                && standings
                    .iter()
                    .all(|it| node_id.is_none() || it.status.is_final());
            if !is_over {
                // The newest: they come oldest first.
                if let Some(newest) = standings.last() {
                    acting.order(newest, WorkAction::Destroy { volumes });
                    is_asked = true;
                }
                continue;
            }
            for standing in &mut standings {
                let status = ApplicationStatus::Destroyed;
                acting.ledger.step(standing, status, Because::default());
            }
        }
        if !is_asked {
            deployment_free_names(&tx, [id], now()).await?;
            tx.sql("DELETE FROM port_leases WHERE deployment_id = ")
                .bind(id)
                .run(&*tx)
                .await?;
        }
        let acted = acting.save(&tx).await?;
        tx.commit().await?;
        Ok(acted)
    }
}

#[derive(FromQueryResult)]
struct LostNode {
    id: NodeId,
}

/// Which of these nodes are lost.
async fn lost_of(
    tx: &Tx<'_>,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Result<BTreeSet<NodeId>, StoreError> {
    let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
    if nodes.is_empty() {
        return Ok(nodes);
    }
    let lost: Vec<LostNode> = tx
        .sql("SELECT id FROM nodes WHERE status = 'LOST' AND id")
        .one_of(nodes)
        .all(&**tx)
        .await?;
    Ok(lost.into_iter().map(|node| node.id).collect())
}

/// The revisions of a deployment that a wish can be about.
struct Revisions {
    /// The one that has containers: what serves, or is stopped.
    acting: Option<Standing>,
    /// Those on their way.
    open: Vec<Standing>,
}

impl Revisions {
    async fn load(tx: &Tx<'_>, deployment: &deployment::Model) -> Result<Self, StoreError> {
        let (open, settled): (Vec<_>, Vec<_>) = standings_of(tx, [deployment.id])
            .await?
            .into_iter()
            .partition(|standing| standing.status.is_open());
        let has_containers =
            |standing: &Standing| !standing.status.is_final() && standing.node_id.is_some();
        let active = deployment.active_revision_id;
        // What serves and is verified again after a restart is both open and acting.
        let restarting = open
            .iter()
            .find(|standing| Some(standing.id) == active && standing.is_restarting())
            .cloned();
        let acting = settled
            .into_iter()
            .filter(has_containers)
            .max_by_key(|standing| (Some(standing.id) == active, standing.number));
        let open = open
            .into_iter()
            .filter(|standing| restarting.as_ref().is_none_or(|it| it.id != standing.id))
            .collect();
        Ok(Self {
            acting: acting.or(restarting),
            open,
        })
    }
}

impl Acting<'_> {
    /// Asks the node of a revision to do something with it.
    fn order(&mut self, standing: &Standing, action: WorkAction) {
        if let Some(node_id) = standing.node_id {
            self.orders.extend(order(
                self.store,
                &self.deployment.name,
                standing,
                node_id,
                action,
                now(),
            ));
        }
    }
}

#[derive(FromQueryResult)]
struct Node {
    name: NodeName,
}

/// Refuses what would wait for a node that was removed: what it had is made again elsewhere.
async fn has_its_node(
    tx: &Tx<'_>,
    deployment: &deployment::Model,
    acted: &Standing,
) -> Result<(), CommandError> {
    let removed: Vec<Node> = tx
        .sql("SELECT name FROM nodes WHERE removed_at IS NOT NULL AND id = ")
        .bind(acted.node_id)
        .all(&**tx)
        .await?;
    match removed.first() {
        None => Ok(()),
        Some(node) => Err(CommandError::conflict(format!(
            "node {}, where `{}` ran, was removed, and it is being moved: nothing of it can be started again there",
            node.name, deployment.name
        ))),
    }
}

async fn wish(
    tx: &Tx<'_>,
    deployment: &deployment::Model,
    desired: DesiredState,
) -> Result<(), StoreError> {
    if deployment.desired_state == desired {
        return Ok(());
    }
    let changed = deployment::ActiveModel {
        id: Set(deployment.id),
        desired_state: Set(desired),
        updated_at: Set(now()),
        ..Default::default()
    };
    deployment::Entity::update(changed).exec(&**tx).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Unfinished {
    count: i64,
}

/// Whether a node was asked for one of these and has not come to the end of that.
async fn is_on_its_way(
    tx: &Tx<'_>,
    id: DeploymentId,
    kinds: &[WorkKind],
) -> Result<bool, StoreError> {
    let select = tx
        .sql("SELECT COUNT(*) AS count FROM work_requests WHERE finished_at IS NULL AND kind")
        .one_of(kinds.iter().copied())
        .push(" AND deployment_id = ")
        .bind(id);
    let rows: Vec<Unfinished> = select.all(&**tx).await?;
    Ok(rows.iter().any(|row| row.count > 0))
}

#[derive(FromQueryResult)]
struct Spec {
    spec: Option<JsonText<DeploymentSpec>>,
}

/// Refuses services that the deployment does not have.
async fn check_services(
    tx: &Tx<'_>,
    deployment: &deployment::Model,
    revisions: &Revisions,
    services: &[ServiceName],
) -> Result<(), CommandError> {
    if services.is_empty() {
        return Ok(());
    }
    let Some(acting) = &revisions.acting else {
        return Err(CommandError::conflict(format!(
            "nothing of `{}` runs, so none of its services can be named yet",
            deployment.name
        )));
    };
    let select = tx
        .sql("SELECT spec FROM revisions WHERE id = ")
        .bind(acting.id);
    let rows: Vec<Spec> = select.all(&**tx).await?;
    let spec = rows.into_iter().find_map(|row| row.spec).map(|spec| spec.0);
    let known: Vec<ServiceName> = spec
        .map(|spec| {
            spec.services
                .into_iter()
                .map(|service| service.name)
                .collect()
        })
        .unwrap_or_default();
    match services.iter().find(|service| !known.contains(service)) {
        None => Ok(()),
        Some(unknown) => {
            let known = known
                .iter()
                .map(ServiceName::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Err(CommandError::invalid(
                "services",
                format_args!(
                    "`{}` has no service `{unknown}`; it has: {known}",
                    deployment.name
                ),
            ))
        }
    }
}
