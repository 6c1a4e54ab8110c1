//! What may be followed.

mod nodes;
mod seen;
mod status;

pub(crate) use status::too_slow;

use crate::context::ContextExt;
use crate::error::ApiError;
use crate::object::{LogLine, Node, StatusEvent};
use async_graphql::{Context, ID, Subscription as Root};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use orchestrator::error::parse_id;
use orchestrator::watch::LogLineView;
use shared::id::{DeploymentId, RevisionId};

/// What a subscription answers: a stream that owns what it needs.
type Answers<T> = BoxStream<'static, Result<T, ApiError>>;

/// What may be followed.
pub(crate) struct Subscription;

/// How many lines of a service log are told first when nothing else is asked for, and at most.
const USUAL_TAIL: i32 = 100;
const LONGEST_TAIL: i32 = 10_000;

/// What may be followed.
#[Root]
impl Subscription {
    /// Each recorded step of each revision, once and in order. Of one deployment: first the steps of
    /// its newest revision so far, then what follows. Of all: from now on.
    async fn deployment_status(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment; all when absent.")] id: Option<ID>,
    ) -> Result<Answers<StatusEvent>, ApiError> {
        let operator = ctx.operator()?;
        let id = id
            .map(|id| parse_id::<DeploymentId>("deployment", &id))
            .transpose()?;
        let events = status::follow(operator.watch(), operator.queries().clone(), id).await?;
        Ok(events
            .map(|event| event.map(|event| StatusEvent::from(&event)))
            .boxed())
    }

    /// The log of a revision's deployment: from its first line, then live, until it is complete.
    async fn build_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The revision.")] revision_id: ID,
    ) -> Result<Answers<LogLine>, ApiError> {
        let revision: RevisionId = parse_id("revision", &revision_id)?;
        Ok(lines(ctx.operator()?.watch().build_log(revision).await?))
    }

    /// What a deployment's services print: the last lines, then live, until whoever reads goes away.
    async fn service_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The deployment.")] deployment_id: ID,
        #[graphql(desc = "The name of the service; all when absent.")] service: Option<String>,
        #[graphql(desc = "How many of the last lines come first, 0 to 10000; 100 when absent.")]
        tail: Option<i32>,
    ) -> Result<Answers<LogLine>, ApiError> {
        let deployment: DeploymentId = parse_id("deployment", &deployment_id)?;
        let tail = tail.unwrap_or(USUAL_TAIL);
        let tail = u32::try_from(tail).ok().filter(|_| tail <= LONGEST_TAIL);
        let tail = tail
            .ok_or_else(|| ApiError::invalid("tail", format_args!("give 0 to {LONGEST_TAIL}")))?;
        Ok(lines(
            ctx.operator()?
                .watch()
                .service_log(deployment, service, tail)
                .await?,
        ))
    }

    /// Nodes: first each as it is now, then each whenever something about it changed.
    async fn node_status(&self, ctx: &Context<'_>) -> Result<Answers<Node>, ApiError> {
        let operator = ctx.operator()?;
        nodes::follow(operator.watch(), operator.queries().clone()).await
    }
}

fn lines(
    lines: BoxStream<'static, Result<LogLineView, orchestrator::CommandError>>,
) -> Answers<LogLine> {
    lines.map(|line| Ok(line?.into())).boxed()
}
