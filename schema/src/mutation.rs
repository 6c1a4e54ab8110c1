//! What may be asked for. An answer means that the wish is a committed row; the subscriptions tell
//! how it goes on.

use crate::context::ContextExt;
use crate::error::ApiError;
use crate::input::CreateDeploymentInput;
use crate::object::{DeadLetter, Deployment, Node, Revision};
use crate::query::dead_letter;
use async_graphql::{Context, ID, Object};
use orchestrator::error::{CommandError, parse_id};
use shared::id::{DeadLetterId, DeploymentId, NodeId, RevisionId};

/// What may be asked for. An answer means that the wish is recorded; subscriptions tell how it goes on.
pub(crate) struct Mutation;

fn deployment_id(id: &ID) -> Result<DeploymentId, ApiError> {
    Ok(parse_id("deployment", id)?)
}

fn node_id(id: &ID) -> Result<NodeId, ApiError> {
    Ok(parse_id("node", id)?)
}

/// What may be asked for. An answer means that the wish is recorded; subscriptions tell how it goes on.
#[Object]
impl Mutation {
    /// Makes a deployment with its first revision and sets out to run it. CONFLICT when the name is taken.
    async fn create_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to deploy.")] input: CreateDeploymentInput,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .create(input.into())
            .await?
            .into())
    }

    /// Makes a new revision and sets out to run it; a stopped deployment is started by it. CONFLICT
    /// when the deployment is destroyed.
    async fn redeploy_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(
            desc = "The branch, tag or commit that becomes the deployment's; the same as before when absent.",
            name = "ref"
        )]
        git_ref: Option<String>,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .redeploy(deployment_id(&id)?, git_ref)
            .await?
            .into())
    }

    /// Makes a new revision of what an earlier one ran. CONFLICT when there is nothing to go back to.
    async fn rollback_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(
            desc = "The number of the revision to go back to; the last good one before the active when absent."
        )]
        to_revision: Option<i32>,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .rollback(deployment_id(&id)?, to_revision)
            .await?
            .into())
    }

    /// Starts what was stopped. Asking twice is fine.
    async fn start_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(desc = "The names of the services; all when absent.")] services: Option<
            Vec<String>,
        >,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .start(deployment_id(&id)?, named(services)?)
            .await?
            .into())
    }

    /// Stops containers and keeps them, with their ports and volumes. Asking twice is fine.
    async fn stop_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(desc = "The names of the services; all when absent.")] services: Option<
            Vec<String>,
        >,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .stop(deployment_id(&id)?, named(services)?)
            .await?
            .into())
    }

    /// Stops and starts containers.
    async fn restart_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(desc = "The names of the services; all when absent.")] services: Option<
            Vec<String>,
        >,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .restart(deployment_id(&id)?, named(services)?)
            .await?
            .into())
    }

    /// Removes everything of a deployment but its record. CONFLICT when that was asked before.
    async fn destroy_deployment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] id: ID,
        #[graphql(
            desc = "Whether its volumes go too, and with them its data.",
            default = false
        )]
        volumes: bool,
    ) -> Result<Deployment, ApiError> {
        Ok(ctx
            .operator()?
            .commands()
            .destroy(deployment_id(&id)?, volumes)
            .await?
            .into())
    }

    /// Gives up a revision that is on its way. CONFLICT when it is not.
    async fn cancel_revision(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The revision.")] id: ID,
    ) -> Result<Revision, ApiError> {
        let id: RevisionId = parse_id("revision", &id)?;
        Ok(ctx.operator()?.commands().cancel_revision(id).await?.into())
    }

    /// Lets a node get nothing new; what runs there goes on. Asking twice is fine.
    async fn cordon_node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The node.")] id: ID,
    ) -> Result<Node, ApiError> {
        let commands = ctx.operator()?.commands();
        Ok(commands.cordon_node(node_id(&id)?).await?.into())
    }

    /// Lets a node get something new again, and ends its draining. Asking twice is fine.
    async fn uncordon_node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The node.")] id: ID,
    ) -> Result<Node, ApiError> {
        let commands = ctx.operator()?.commands();
        Ok(commands.uncordon_node(node_id(&id)?).await?.into())
    }

    /// Cordons a node and moves what can be elsewhere: each is started there before it is stopped here.
    /// What is pinned to the node or has local volumes stays. Asking again sets another deadline.
    async fn drain_node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The node.")] id: ID,
        #[graphql(
            desc = "For how long things are moved, in seconds, 1 to 604800; after that the node stays cordoned.",
            default = 3600
        )]
        deadline_seconds: i32,
    ) -> Result<Node, ApiError> {
        let commands = ctx.operator()?.commands();
        Ok(commands
            .drain_node(node_id(&id)?, deadline_seconds)
            .await?
            .into())
    }

    /// Takes a node out of the fleet that is LOST; CONFLICT when it is not. What can be elsewhere is
    /// moved; what only this node had is FAILED. A heartbeat of the same name brings the node back.
    async fn remove_node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The node.")] id: ID,
    ) -> Result<Node, ApiError> {
        let commands = ctx.operator()?.commands();
        Ok(commands.remove_node(node_id(&id)?).await?.into())
    }

    /// Sends a dead letter to its queue again and forgets it; one that still cannot be handled dies
    /// again, as a new one. Answers it as it was. CONFLICT when it cannot be sent again.
    async fn retry_dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dead letter.")] id: ID,
    ) -> Result<DeadLetter, ApiError> {
        let letter = dead_letter(ctx, &id).await?;
        let id: DeadLetterId = parse_id("dead letter", &id)?;
        ctx.operator()?.dead_letters().retry(id).await?;
        Ok(letter)
    }

    /// Forgets a dead letter. Answers it as it was.
    async fn drop_dead_letter(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The dead letter.")] id: ID,
    ) -> Result<DeadLetter, ApiError> {
        let letter = dead_letter(ctx, &id).await?;
        let id: DeadLetterId = parse_id("dead letter", &id)?;
        ctx.operator()?.dead_letters().drop(id).await?;
        Ok(letter)
    }
}

/// The services that are meant: all when nothing was said. An empty list is no way to say all: it is
/// what is left of somebody's filter.
fn named(services: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    match services {
        Some(names) if names.is_empty() => {
            let what = "name at least one, or leave it out to mean all";
            Err(CommandError::invalid("services", what).into())
        }
        names => Ok(names.unwrap_or_default()),
    }
}
