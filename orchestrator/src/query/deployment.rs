//! Reading deployments.

use super::Queries;
use super::assemble::views;
use super::cursor::{Page, PageOf, encode, page_of};
use crate::error::CommandError;
use crate::store::entity::{deployment, deployment_label, node};
use crate::view::DeploymentView;
use sea_orm::sea_query::{Expr, ExprTrait, LikeExpr, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use shared::id::DeploymentId;
use shared::status::ApplicationStatus;
use std::collections::HashMap;
use uuid::Uuid;

/// Marks cursors of this list.
const CURSOR: u8 = b'd';

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

/// How many parts a filter may have: each is a look into another table.
const FILTER_LIMIT: usize = 16;

impl Queries {
    /// A deployment by its id, destroyed ones too.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployment_by_id(
        &self,
        id: DeploymentId,
    ) -> Result<Option<DeploymentView>, CommandError> {
        let mut found = self.deployments_by_ids(&[id]).await?;
        Ok(found.remove(&id))
    }

    /// A deployment that is not destroyed, by its name.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployment_by_name(
        &self,
        name: &str,
    ) -> Result<Option<DeploymentView>, CommandError> {
        let named = deployment::Entity::find().filter(deployment::Column::LiveName.eq(name));
        Ok(views(&self.store, named).await?.pop())
    }

    /// Deployments by their ids; unknown ones are absent.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployments_by_ids(
        &self,
        ids: &[DeploymentId],
    ) -> Result<HashMap<DeploymentId, DeploymentView>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let these =
            deployment::Entity::find().filter(deployment::Column::Id.is_in(ids.iter().copied()));
        Ok(views(&self.store, these)
            .await?
            .into_iter()
            .map(|view| (view.id, view))
            .collect())
    }

    /// A page of deployments, oldest first.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size, cursor or filter that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn deployments_page(
        &self,
        filter: &DeploymentFilter,
        page: &Page,
    ) -> Result<PageOf<DeploymentView>, CommandError> {
        let size = page.size()?;
        let mut select = filtered(filter)?;
        if let Some(after) = page.position(CURSOR)? {
            select =
                select.filter(deployment::Column::Id.gt(DeploymentId(Uuid::from_bytes(after))));
        }
        let select = select.order_by_asc(deployment::Column::Id).limit(size + 1);
        let views = views(&self.store, select).await?;
        Ok(page_of(views, size, |deployment: &DeploymentView| {
            encode(CURSOR, deployment.id.0.as_bytes())
        }))
    }
}

fn filtered(filter: &DeploymentFilter) -> Result<Select<deployment::Entity>, CommandError> {
    if filter.labels.len() > FILTER_LIMIT {
        return Err(CommandError::invalid(
            "filter.labels",
            format_args!("at most {FILTER_LIMIT} labels can be asked for at once"),
        ));
    }
    let mut select = deployment::Entity::find();
    if !filter.include_destroyed {
        select = select.filter(deployment::Column::LiveName.is_not_null());
    }
    if let Some(prefix) = &filter.name_prefix {
        select = select.filter(
            Expr::col((deployment::Entity, deployment::Column::Name)).like(starting_with(prefix)),
        );
    }
    for label in &filter.labels {
        select = select.filter(deployment::Column::Id.in_subquery(labelled(label)));
    }
    if let Some(name) = &filter.node {
        let of_name = node::Entity::find()
            .select_only()
            .column(node::Column::Id)
            .filter(node::Column::Name.eq(name));
        let placed = deployment::Column::NodeId.in_subquery(of_name.into_query());
        select = select.filter(
            Condition::any()
                .add(placed)
                .add(deployment::Column::PinnedNode.eq(name)),
        );
    }
    if !filter.statuses.is_empty() {
        let words = filter.statuses.iter().map(|status| status.as_str());
        select = select.filter(Expr::cust(STANDING).is_in(words));
    }
    Ok(select)
}

/// A deployment's status as `shared::status` derives it: what serves speaks, else the newest. A test
/// holds the two against each other.
const STANDING: &str = "(SELECT COALESCE(\
    (SELECT a.status FROM revisions a WHERE a.id = deployments.active_revision_id \
     AND a.status NOT IN ('FAILED', 'ROLLED_BACK', 'CANCELLED', 'SUPERSEDED', 'COMPLETED', 'DESTROYED')), \
    (SELECT l.status FROM revisions l WHERE l.id = deployments.latest_revision_id)))";

fn labelled(label: &LabelFilter) -> SelectStatement {
    let mut select = Query::select();
    select
        .column(deployment_label::Column::DeploymentId)
        .from(deployment_label::Entity)
        .and_where(deployment_label::Column::Key.eq(&label.key));
    if let Some(value) = &label.value {
        select.and_where(deployment_label::Column::Value.eq(value));
    }
    select
}

/// Names that start with this very text, whatever `%` and `_` mean to `LIKE`.
fn starting_with(prefix: &str) -> LikeExpr {
    let escaped: String = prefix
        .chars()
        .take(64)
        .flat_map(|c| {
            matches!(c, '%' | '_' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect();
    LikeExpr::new(format!("{escaped}%")).escape('\\')
}
