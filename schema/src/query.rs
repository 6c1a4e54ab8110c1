//! What may be read.

use crate::context::ContextExt;
use crate::error::{ApiError, Code, Maybe};
use crate::input::DeploymentFilterInput;
use crate::object::{
    DeadLetter, DeadLetterConnection, Deployment, DeploymentConnection, Node, Revision,
};
use crate::page::{nodes_price, page, page_price};
use async_graphql::{Context, ID, Object};
use orchestrator::CommandError;
use orchestrator::error::parse_id;
use shared::id::{DeadLetterId, DeploymentId, NodeId, RevisionId};
use shared::name::{DeploymentName, NodeName};

/// What may be read.
pub(crate) struct Query;

/// What may be read.
#[Object]
impl Query {
    /// A deployment by its id, or one that is not destroyed by its name.
    async fn deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id; then no name.")] id: Option<ID>,
        #[graphql(desc = "Its name; then no id.")] name: Option<String>,
    ) -> Maybe<Deployment> {
        Some(deployment(ctx, id, name).await)
    }

    /// Deployments, oldest first; those that are destroyed only when the filter says so.
    #[graphql(complexity = "page_price(first, child_complexity)")]
    async fn deployments(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which ones; all that are not destroyed when absent.")] filter: Option<
            DeploymentFilterInput,
        >,
        #[graphql(desc = "How many, 1 to 200; 50 when absent.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page starts; from the oldest when absent.")]
        after: Option<String>,
    ) -> Result<DeploymentConnection, ApiError> {
        let queries = ctx.operator()?.queries();
        let filter = filter
            .map(DeploymentFilterInput::check)
            .transpose()?
            .unwrap_or_default();
        let continued = after.is_some();
        let found = queries
            .deployments_page(&filter, &page(first, after))
            .await?;
        Ok(DeploymentConnection::new(found, continued))
    }

    /// A revision by its id.
    async fn revision(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: ID,
    ) -> Maybe<Revision> {
        Some(revision(ctx, &id).await)
    }

    /// A node by its id or by its name.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id; then no name.")] id: Option<ID>,
        #[graphql(desc = "Its name; then no id.")] name: Option<String>,
    ) -> Maybe<Node> {
        Some(node(ctx, id, name).await)
    }

    /// All nodes, by name, also those that are lost.
    #[graphql(complexity = "nodes_price(child_complexity)")]
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Node>, ApiError> {
        let nodes = ctx.operator()?.queries().nodes_all().await?;
        Ok(nodes.into_iter().map(Node::from).collect())
    }

    /// A dead letter by its id.
    async fn dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: ID,
    ) -> Maybe<DeadLetter> {
        Some(dead_letter(ctx, &id).await)
    }

    /// Messages that nobody could handle, newest first. The newest 10,000 are kept.
    #[graphql(complexity = "page_price(first, child_complexity)")]
    async fn dead_letters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 1 to 200; 50 when absent.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page starts; from the newest when absent.")]
        after: Option<String>,
    ) -> Result<DeadLetterConnection, ApiError> {
        let continued = after.is_some();
        let queries = ctx.operator()?.queries();
        let found = queries.dead_letters_page(&page(first, after)).await?;
        Ok(DeadLetterConnection::new(found, continued))
    }
}

async fn deployment(
    ctx: &Context<'_>,
    id: Option<ID>,
    name: Option<String>,
) -> Result<Deployment, ApiError> {
    let queries = ctx.operator()?.queries();
    let found = match By::of(id, name)? {
        By::Id(id) => {
            queries
                .deployment_by_id(parse_id::<DeploymentId>("deployment", &id)?)
                .await?
        }
        By::Name(name) => {
            // What is not a name names nothing.
            let name = DeploymentName::parse(&name)
                .map_err(|_| CommandError::not_found("deployment", &name))?;
            queries.deployment_by_name(name.as_str()).await?
        }
    };
    found.map(Deployment::from).ok_or_else(|| no("deployment"))
}

async fn revision(ctx: &Context<'_>, id: &ID) -> Result<Revision, ApiError> {
    let found = ctx
        .operator()?
        .queries()
        .revision_by_id(parse_id::<RevisionId>("revision", id)?)
        .await?;
    found.map(Revision::from).ok_or_else(|| no("revision"))
}

async fn node(ctx: &Context<'_>, id: Option<ID>, name: Option<String>) -> Result<Node, ApiError> {
    let queries = ctx.operator()?.queries();
    let found = match By::of(id, name)? {
        By::Id(id) => queries.node_by_id(parse_id::<NodeId>("node", &id)?).await?,
        By::Name(name) => {
            let name =
                NodeName::parse(&name).map_err(|_| CommandError::not_found("node", &name))?;
            queries.node_by_name(name.as_str()).await?
        }
    };
    found.map(Node::from).ok_or_else(|| no("node"))
}

/// The dead letter of this id, or why not.
pub(crate) async fn dead_letter(ctx: &Context<'_>, id: &ID) -> Result<DeadLetter, ApiError> {
    let found = ctx
        .operator()?
        .queries()
        .dead_letter_by_id(parse_id::<DeadLetterId>("dead letter", id)?)
        .await?;
    found.map(DeadLetter::from).ok_or_else(|| no("dead letter"))
}

/// How something is named: by exactly one of two ways.
enum By {
    Id(ID),
    Name(String),
}

impl By {
    fn of(id: Option<ID>, name: Option<String>) -> Result<Self, ApiError> {
        match (id, name) {
            (Some(id), None) => Ok(Self::Id(id)),
            (None, Some(name)) => Ok(Self::Name(name)),
            _ => Err(ApiError::invalid(
                "id",
                "give either `id` or `name`, and only one of them",
            )),
        }
    }
}

fn no(kind: &'static str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no such {kind}"))
}
