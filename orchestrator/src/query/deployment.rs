//! Reading deployments and what belongs to them.

use super::cursor::{Page, PageOf};
use super::Queries;
use crate::error::CommandError;
use crate::view::{DeploymentView, LabelView, PortLeaseView, ServiceView};
use shared::id::DeploymentId;
use shared::status::ApplicationStatus;
use std::collections::HashMap;

/// Which deployments a list has; every part that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct DeploymentFilter {
    /// Standing at any of these; any when empty.
    pub statuses: Vec<ApplicationStatus>,
    /// Carrying all of these labels.
    pub labels: Vec<LabelFilter>,
    /// With a name that starts with this.
    pub name_prefix: Option<String>,
    /// Placed on, or pinned to, the node of this name.
    pub node: Option<String>,
    /// Also those that are destroyed.
    pub include_destroyed: bool,
}

/// A label that a deployment must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// Its key.
    pub key: String,
    /// Its value; any when absent.
    pub value: Option<String>,
}

impl Queries {
    /// A deployment by its id, destroyed ones too.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployment_by_id(&self, id: DeploymentId) -> Result<Option<DeploymentView>, CommandError> {
        let mut found = self.deployments_by_ids(&[id]).await?;
        Ok(found.remove(&id))
    }

    /// A deployment that is not destroyed, by its name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployment_by_name(&self, _name: &str) -> Result<Option<DeploymentView>, CommandError> {
        Ok(None)
    }

    /// Deployments by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployments_by_ids(&self, _ids: &[DeploymentId]) -> Result<HashMap<DeploymentId, DeploymentView>, CommandError> {
        Ok(HashMap::new())
    }

    /// A page of deployments, oldest first.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size, cursor or filter that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployments_page(&self, _filter: &DeploymentFilter, page: &Page) -> Result<PageOf<DeploymentView>, CommandError> {
        page.size()?;
        Ok(PageOf { edges: Vec::new(), has_next_page: false })
    }

    /// The ports that these deployments hold, lowest first.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn ports_of(&self, _ids: &[DeploymentId]) -> Result<HashMap<DeploymentId, Vec<PortLeaseView>>, CommandError> {
        Ok(HashMap::new())
    }

    /// The services of these deployments, by name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn services_of(&self, _ids: &[DeploymentId]) -> Result<HashMap<DeploymentId, Vec<ServiceView>>, CommandError> {
        Ok(HashMap::new())
    }

    /// The labels of these deployments, by key.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn labels_of(&self, _ids: &[DeploymentId]) -> Result<HashMap<DeploymentId, Vec<LabelView>>, CommandError> {
        Ok(HashMap::new())
    }
}
