//! Putting a deployment together from its rows: three queries for any number of them.

use super::belongings::lease;
use crate::error::CommandError;
use crate::store::column::LeaseState;
use crate::store::entity::{deployment, node, port_lease, revision};
use crate::store::{Store, StoreError, Transaction};
use crate::view::{DeploymentView, GitWatchView, PortLeaseView};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Select};
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::source::Source;
use shared::status::{DesiredState, RevisionStanding, derive_deployment_status};
use std::collections::HashMap;

/// What deployments are put together from, beside their own rows.
#[derive(Default)]
struct Parts {
    revisions: HashMap<RevisionId, revision::Model>,
    leases: HashMap<DeploymentId, Vec<PortLeaseView>>,
    nodes: HashMap<NodeId, node::Model>,
}

/// Deployments as people see them, in the order that they are selected in.
///
/// All is read from one snapshot: whoever sees RUNNING also sees the URL.
pub(super) async fn views(
    store: &Store,
    select: Select<deployment::Entity>,
) -> Result<Vec<DeploymentView>, CommandError> {
    let snapshot = store.snapshot().await?;
    let rows = select.all(&snapshot).await.map_err(StoreError::from)?;
    let parts = Parts::load(&snapshot, &rows).await?;
    snapshot.commit().await.map_err(StoreError::from)?;
    Ok(rows.into_iter().map(|row| view(row, &parts)).collect())
}

impl Parts {
    async fn load(db: &Transaction, rows: &[deployment::Model]) -> Result<Self, StoreError> {
        if rows.is_empty() {
            return Ok(Self::default());
        }
        let both = rows
            .iter()
            .flat_map(|row| [row.active_revision_id, row.latest_revision_id])
            .flatten();
        let revisions = revision::Entity::find()
            .filter(revision::Column::Id.is_in(both))
            .all(db)
            .await?;
        let leases = port_lease::Entity::find()
            .filter(port_lease::Column::DeploymentId.is_in(rows.iter().map(|row| row.id)))
            .filter(port_lease::Column::State.eq(LeaseState::Held))
            .order_by_asc(port_lease::Column::Port)
            .all(db)
            .await?;
        // What serves may be elsewhere than the deployment goes.
        let serving = revisions.iter().filter_map(|row| row.node_id);
        let placed = rows.iter().filter_map(|row| row.node_id).chain(serving);
        let nodes = node::Entity::find()
            .filter(node::Column::Id.is_in(placed))
            .all(db)
            .await?;
        let mut by_deployment: HashMap<_, Vec<_>> = HashMap::new();
        for lease in leases.into_iter().filter_map(lease) {
            by_deployment
                .entry(lease.deployment_id)
                .or_default()
                .push(lease);
        }
        Ok(Self {
            revisions: revisions.into_iter().map(|row| (row.id, row)).collect(),
            leases: by_deployment,
            nodes: nodes.into_iter().map(|row| (row.id, row)).collect(),
        })
    }
}

fn view(row: deployment::Model, parts: &Parts) -> DeploymentView {
    let active = row
        .active_revision_id
        .and_then(|id| parts.revisions.get(&id));
    let latest = row
        .latest_revision_id
        .and_then(|id| parts.revisions.get(&id));
    let status = derive_deployment_status(
        row.desired_state,
        active.map(standing).as_ref(),
        latest.map(standing).as_ref(),
    );
    DeploymentView {
        url: url(&row, active, parts),
        git_watch: git_watch(&row),
        id: row.id,
        name: row.name,
        source: row.source.0,
        desired_state: row.desired_state,
        method: row.method,
        pinned_node: row.pinned_node,
        node_id: row.node_id,
        active_revision_id: row.active_revision_id,
        latest_revision_id: row.latest_revision_id,
        status,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn standing(revision: &revision::Model) -> RevisionStanding {
    RevisionStanding {
        number: revision.number,
        status: revision.status,
        failure_reason: revision.failure_reason,
        detail: revision.status_detail.clone(),
    }
}

/// Where the first port of the first service answers.
fn url(row: &deployment::Model, active: Option<&revision::Model>, parts: &Parts) -> Option<String> {
    let active = active.filter(|active| !active.status.is_final())?;
    let node = parts.nodes.get(&active.node_id?)?;
    let leases: Vec<&PortLeaseView> = parts
        .leases
        .get(&row.id)?
        .iter()
        .filter(|lease| lease.node_id == node.id)
        .collect();
    let first = active.spec.as_ref().and_then(|spec| {
        let service = spec
            .0
            .services
            .iter()
            .find(|service| !service.ports.is_empty())?;
        leases.iter().find(|lease| {
            lease.service == service.name && service.ports.first() == Some(&lease.container_port)
        })
    });
    let port = first.or_else(|| leases.first())?.port;
    // An IPv6 address needs brackets beside a port.
    let host = &node.advertise;
    let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    Some(if bare_v6 {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    })
}

fn git_watch(row: &deployment::Model) -> Option<GitWatchView> {
    let Source::GitApp(_) = &row.source.0 else {
        return None;
    };
    let watched = row.desired_state == DesiredState::Running;
    Some(GitWatchView {
        last_polled_at: row.last_polled_at,
        next_poll_at: row.next_poll_at.filter(|_| watched),
        last_seen_commit: row.last_seen_commit.clone(),
        last_poll_error: row.last_poll_error.clone(),
    })
}
