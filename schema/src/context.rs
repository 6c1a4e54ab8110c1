//! What a resolver may reach, given as a value: without a caller there is nothing to ask.

use crate::auth::Caller;
use crate::error::{ApiError, Code};
use async_graphql::Context;
use orchestrator::{Commands, DeadLetters, Orchestrator, Queries, Watch};

/// The engine, for a caller who may use all of it.
#[derive(Clone, Copy)]
pub(crate) struct Operator<'a> {
    orchestrator: &'a Orchestrator,
}

impl<'a> Operator<'a> {
    pub(crate) fn commands(self) -> &'a Commands {
        self.orchestrator.commands()
    }

    pub(crate) fn queries(self) -> &'a Queries {
        self.orchestrator.queries()
    }

    pub(crate) fn dead_letters(self) -> &'a DeadLetters {
        self.orchestrator.dead_letters()
    }

    pub(crate) fn watch(self) -> &'a Watch {
        self.orchestrator.watch()
    }
}

/// The way from a resolver to the engine.
pub(crate) trait ContextExt {
    /// The engine, if whoever asks may use it.
    fn operator(&self) -> Result<Operator<'_>, ApiError>;
}

impl ContextExt for Context<'_> {
    fn operator(&self) -> Result<Operator<'_>, ApiError> {
        // The router lets nobody in without a token; this is the second door.
        if self.data_opt::<Caller>().is_none() {
            return Err(ApiError::new(
                Code::Unauthenticated,
                crate::auth::Unknown::Missing.message(),
            ));
        }
        let orchestrator = self
            .data_opt::<Orchestrator>()
            .ok_or_else(|| ApiError::internal(&Missing))?;
        Ok(Operator { orchestrator })
    }
}

/// The schema was built without its engine: only a mistake of ours can do that.
#[derive(Debug, thiserror::Error)]
#[error("the schema has no orchestrator")]
struct Missing;
