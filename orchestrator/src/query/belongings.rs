//! Reading what belongs to deployments: ports, services, labels.

use super::Queries;
use crate::error::CommandError;
use crate::store::StoreError;
use crate::store::column::LeaseState;
use crate::store::entity::{deployment, deployment_label, port_lease, revision, service_state};
use crate::view::{LabelView, PortLeaseView, ServiceView};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use shared::id::{DeploymentId, RevisionId};
use shared::name::ServiceName;
use std::collections::HashMap;

impl Queries {
    /// The ports that these deployments hold, lowest first.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn ports_of(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashMap<DeploymentId, Vec<PortLeaseView>>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = port_lease::Entity::find()
            .filter(port_lease::Column::DeploymentId.is_in(ids.iter().copied()))
            .filter(port_lease::Column::State.eq(LeaseState::Held))
            .order_by_asc(port_lease::Column::Port)
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let mut ports: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            let deployment_id = row.deployment_id;
            if let Some(lease) = lease(row) {
                ports.entry(deployment_id).or_default().push(lease);
            }
        }
        Ok(ports)
    }

    /// The services of these deployments, by name: those of the revision that serves, else of the newest.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn services_of(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashMap<DeploymentId, Vec<ServiceView>>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let db = self.store.reader();
        let deployments = deployment::Entity::find()
            .filter(deployment::Column::Id.is_in(ids.iter().copied()))
            .all(db)
            .await
            .map_err(StoreError::from)?;
        let both = deployments
            .iter()
            .flat_map(|row| [row.active_revision_id, row.latest_revision_id])
            .flatten();
        let revisions = revision::Entity::find()
            .filter(revision::Column::Id.is_in(both))
            .all(db)
            .await
            .map_err(StoreError::from)?;
        let revisions: HashMap<RevisionId, revision::Model> =
            revisions.into_iter().map(|row| (row.id, row)).collect();
        let serves = |row: &deployment::Model| {
            let active = row
                .active_revision_id
                .and_then(|id| revisions.get(&id))
                .filter(|active| !active.status.is_final());
            active.or_else(|| row.latest_revision_id.and_then(|id| revisions.get(&id)))
        };
        let speakers: HashMap<RevisionId, &revision::Model> = deployments
            .iter()
            .filter_map(serves)
            .map(|revision| (revision.id, revision))
            .collect();
        let rows = service_state::Entity::find()
            .filter(service_state::Column::RevisionId.is_in(speakers.keys().copied()))
            .order_by_asc(service_state::Column::Service)
            .all(db)
            .await
            .map_err(StoreError::from)?;
        let mut services: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            if let Some(revision) = speakers.get(&row.revision_id) {
                services
                    .entry(revision.deployment_id)
                    .or_default()
                    .push(service(row, revision)?);
            }
        }
        Ok(services)
    }

    /// The labels of these deployments, by key.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn labels_of(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashMap<DeploymentId, Vec<LabelView>>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = deployment_label::Entity::find()
            .filter(deployment_label::Column::DeploymentId.is_in(ids.iter().copied()))
            .order_by_asc(deployment_label::Column::Key)
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let mut labels: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            labels
                .entry(row.deployment_id)
                .or_default()
                .push(LabelView {
                    key: row.key,
                    value: row.value,
                });
        }
        Ok(labels)
    }
}

/// A held lease as people see it; nothing for a reserved one.
pub(super) fn lease(row: port_lease::Model) -> Option<PortLeaseView> {
    Some(PortLeaseView {
        deployment_id: row.deployment_id,
        node_id: row.node_id,
        port: u16::try_from(row.port).ok()?,
        container_port: u16::try_from(row.container_port?).ok()?,
        service: row.service?,
    })
}

fn service(
    row: service_state::Model,
    revision: &revision::Model,
) -> Result<ServiceView, CommandError> {
    let name = ServiceName::parse(&row.service).map_err(|error| StoreError::Inconsistent {
        what: format!("a service of revision {}: {error}", revision.id),
    })?;
    let spec = revision
        .spec
        .as_ref()
        .and_then(|spec| spec.0.services.iter().find(|service| service.name == name));
    Ok(ServiceView {
        deployment_id: revision.deployment_id,
        status: row.status,
        image: row.image,
        restarts: u32::try_from(row.restarts).unwrap_or_default(),
        domain: spec.and_then(|service| service.domain.clone()),
        name,
    })
}
