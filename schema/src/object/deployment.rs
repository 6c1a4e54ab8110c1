//! A deployment and what belongs to it.

use super::revision::{Revision, RevisionConnection};
use super::source::{GitWatch, Source};
use super::{Node, id, int};
use crate::error::{ApiError, Maybe};
use crate::loader::{LabelsOf, NodeOf, PortsOf, RevisionOf, RevisionsOf, ServicesOf, load};
use crate::page::{connection, list_price, page_price};
use async_graphql::{Context, ID, Object, SimpleObject};
use chrono::{DateTime, Utc};
use orchestrator::view::{DeploymentView, LabelView, PortLeaseView, ServiceView};
use shared::id::{NodeId, RevisionId};
use shared::status::{ApplicationStatus, DesiredState, FailureReason, Method};

/// What a user names and manages for a long time: services with one source, one wish and labels.
#[derive(Clone)]
pub(crate) struct Deployment {
    view: DeploymentView,
}

impl From<DeploymentView> for Deployment {
    fn from(view: DeploymentView) -> Self {
        Self { view }
    }
}

/// What a user names and manages for a long time: services with one source, one wish and labels.
#[Object]
impl Deployment {
    /// Its identity; stays readable by it after it is destroyed.
    async fn id(&self) -> ID {
        id(self.view.id)
    }

    /// Its name, unique among the deployments that are not destroyed.
    async fn name(&self) -> &str {
        self.view.name.as_str()
    }

    /// Where it stands: what its serving revision says, or the newest one when nothing serves.
    async fn status(&self) -> ApplicationStatus {
        self.view.status.status
    }

    /// Why, when it failed.
    async fn failure_reason(&self) -> Option<FailureReason> {
        self.view.status.failure_reason
    }

    /// What a person should know, such as what it waits for or how its newest revision failed.
    async fn status_detail(&self) -> Option<&str> {
        self.view.status.detail.as_deref()
    }

    /// What the user wants of it.
    async fn desired_state(&self) -> DesiredState {
        self.view.desired_state
    }

    /// Where its versions come from.
    async fn source(&self) -> Source {
        Source::from(&self.view.source)
    }

    /// How its repository is watched for new commits; none for other sources.
    async fn git_watch(&self) -> Option<GitWatch> {
        GitWatch::of(&self.view)
    }

    /// How a new revision replaces the old one, when the user said so; else the source decides.
    async fn method(&self) -> Option<Method> {
        self.view.method
    }

    /// Its labels, by key.
    #[graphql(complexity = "list_price(child_complexity)")]
    async fn labels(&self, ctx: &Context<'_>) -> Result<Vec<Label>, ApiError> {
        let labels = load(ctx, LabelsOf(self.view.id)).await?.unwrap_or_default();
        Ok(labels.into_iter().map(Label::from).collect())
    }

    /// The node that it is placed on; none before it is placed.
    async fn node(&self, ctx: &Context<'_>) -> Maybe<Node> {
        node_of(ctx, self.view.node_id).await
    }

    /// The name of the node that it must run on, when the user said so.
    async fn pinned_node(&self) -> Option<&str> {
        self.view
            .pinned_node
            .as_ref()
            .map(shared::name::NodeName::as_str)
    }

    /// Where it answers: the first port of its first service; none before it holds one.
    async fn url(&self) -> Option<&str> {
        self.view.url.as_deref()
    }

    /// The host ports that it holds until it is destroyed, lowest first.
    #[graphql(complexity = "list_price(child_complexity)")]
    async fn ports(&self, ctx: &Context<'_>) -> Result<Vec<PortLease>, ApiError> {
        let ports = load(ctx, PortsOf(self.view.id)).await?.unwrap_or_default();
        Ok(ports.into_iter().map(PortLease::from).collect())
    }

    /// The revision that serves, or served last.
    async fn active_revision(&self, ctx: &Context<'_>) -> Maybe<Revision> {
        revision_of(ctx, self.view.active_revision_id).await
    }

    /// The newest revision, which may still be on its way.
    async fn latest_revision(&self, ctx: &Context<'_>) -> Maybe<Revision> {
        revision_of(ctx, self.view.latest_revision_id).await
    }

    /// Its services, by name; none before its configuration is known.
    #[graphql(complexity = "list_price(child_complexity)")]
    async fn services(&self, ctx: &Context<'_>) -> Result<Vec<Service>, ApiError> {
        let services = load(ctx, ServicesOf(self.view.id))
            .await?
            .unwrap_or_default();
        Ok(services.into_iter().map(Service::from).collect())
    }

    /// Its revisions, newest first.
    #[graphql(complexity = "page_price(first, child_complexity)")]
    async fn revisions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 1 to 200; 50 when absent.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page starts; from the newest when absent.")]
        after: Option<String>,
    ) -> Result<RevisionConnection, ApiError> {
        let continued = after.is_some();
        let page = load(
            ctx,
            RevisionsOf {
                deployment: self.view.id,
                first,
                after,
            },
        )
        .await?;
        let page = page.unwrap_or_else(orchestrator::query::PageOf::empty);
        Ok(RevisionConnection::new(page, continued))
    }

    /// When it was asked for.
    async fn created_at(&self) -> DateTime<Utc> {
        self.view.created_at
    }

    /// When something about it last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.view.updated_at
    }
}

/// The node with this id, through the loader.
pub(super) async fn node_of(ctx: &Context<'_>, node: Option<NodeId>) -> Maybe<Node> {
    let found = load(ctx, NodeOf(node?)).await.transpose()?;
    Some(found.map(Node::from))
}

async fn revision_of(ctx: &Context<'_>, revision: Option<RevisionId>) -> Maybe<Revision> {
    let found = load(ctx, RevisionOf(revision?)).await.transpose()?;
    Some(found.map(Revision::from))
}

connection! {
    /// A page of deployments.
    DeploymentConnection,
    /// A deployment on a page.
    DeploymentEdge,
    Deployment
}

/// A key and value on a deployment or node, to select by.
#[derive(Clone, SimpleObject)]
pub(crate) struct Label {
    /// Its key, unique on what carries it.
    key: String,
    /// Its value; may be empty.
    value: String,
}

impl Label {
    pub(super) fn new(key: String, value: String) -> Self {
        Self { key, value }
    }
}

impl From<LabelView> for Label {
    fn from(label: LabelView) -> Self {
        Self::new(label.key, label.value)
    }
}

/// One or more containers of one image inside a deployment.
#[derive(Clone, SimpleObject)]
pub(crate) struct Service {
    /// Its name within the deployment, also its host name for the other services.
    name: String,
    /// How it stands.
    status: ApplicationStatus,
    /// The image that it runs, by the engine's id.
    image: String,
    /// How often the engine restarted it since it was created.
    restarts: i32,
    /// The domain that it is served under, when it has one.
    domain: Option<String>,
}

impl From<ServiceView> for Service {
    fn from(service: ServiceView) -> Self {
        Self {
            name: service.name.to_string(),
            status: service.status,
            image: service.image,
            restarts: int(service.restarts),
            domain: service.domain,
        }
    }
}

/// A host port on a node, held by a deployment until it is destroyed.
#[derive(Clone)]
pub(crate) struct PortLease {
    view: PortLeaseView,
}

impl From<PortLeaseView> for PortLease {
    fn from(view: PortLeaseView) -> Self {
        Self { view }
    }
}

/// A host port on a node, held by a deployment until it is destroyed.
#[Object]
impl PortLease {
    /// The port on the node.
    async fn port(&self) -> i32 {
        int(self.view.port)
    }

    /// The port in the container.
    async fn container_port(&self) -> i32 {
        int(self.view.container_port)
    }

    /// The service that listens there.
    async fn service(&self) -> &str {
        self.view.service.as_str()
    }

    /// The node.
    async fn node(&self, ctx: &Context<'_>) -> Result<Node, ApiError> {
        let node = node_of(ctx, Some(self.view.node_id)).await;
        node.unwrap_or_else(|| Err(ApiError::internal(&LostNode(self.view.node_id))))
    }
}

/// A lease names a node without a row: the store's references forbid it.
#[derive(Debug, thiserror::Error)]
#[error("a port lease names the unknown node {0}")]
struct LostNode(NodeId);
