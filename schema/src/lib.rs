//! The face: GraphQL over HTTP and WebSocket, who may use it, and the pages beside it.
//!
//! A request passes, in this order: its declared size ([`http`]), who asks ([`auth`]), its real size
//! and form, the cost of its document ([`guard`]), and only then async-graphql. A resolver is a
//! sentence: parse, ask the engine, convert. Nothing here knows the database, the bus or Docker.
//!
//! Reading order: [`query`], [`mutation`], [`subscription`] (what is offered), [`object`] and
//! [`input`] (its types), [`guard`], [`http`] and [`ws`] (the ways in), [`server`] (the listener).

mod auth;
mod context;
mod error;
mod guard;
mod http;
mod input;
mod loader;
mod metrics;
mod mutation;
mod object;
mod page;
mod query;
mod server;
mod subscription;
mod ws;

pub use auth::{TOKEN_MIN_BYTES, TokenError};
pub use metrics::{Metrics, MetricsError};
pub use server::{BoundServer, ServeError, ServeSettings, serve};

use async_graphql::{SDLExportOptions, Schema, SchemaBuilder};
use mutation::Mutation;
use orchestrator::Orchestrator;
use query::Query;
use subscription::Subscription;

/// The executable schema.
type Api = Schema<Query, Mutation, Subscription>;

fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query, Mutation, Subscription)
        .limit_complexity(page::COMPLEXITY_LIMIT)
        // The guard bounds depth, and counts it as people do: without fragments.
        .limit_recursive_depth(64)
}

/// The schema over an engine.
fn api(orchestrator: Orchestrator) -> Api {
    let loaders = loader::loaders(orchestrator.queries().clone());
    builder().data(orchestrator).data(loaders).finish()
}

/// The schema in the language of GraphQL, as `schema/schema.graphql` has it.
#[must_use]
pub fn sdl() -> String {
    let options = SDLExportOptions::new().prefer_single_line_descriptions();
    let sdl = builder().finish().sdl_with_options(options);
    format!("{}\n", sdl.trim_end())
}
