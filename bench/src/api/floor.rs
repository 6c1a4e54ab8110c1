//! The floor of the API, as a process of its own: async-graphql and axum as they come, mutations
//! committed in groups, subscriptions fed from a channel. No token, no guard, one table.

use anyhow::Result;
use async_graphql::http::{
    ALL_WEBSOCKET_PROTOCOLS, WebSocket as Protocol, WebSocketProtocols, WsMessage,
};
use async_graphql::{Context, ID, InputObject, Object, Schema, SimpleObject, Subscription};
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse;
use axum::routing::get;
use chrono::{DateTime, Utc};
use futures::{SinkExt, Stream, StreamExt};
use sqlx::PgPool;
use std::net::SocketAddr;
use tokio::sync::{broadcast, mpsc, oneshot};
use uuid::Uuid;

type Api = Schema<Query, Mutation, Events>;

/// How many mutations share a transaction at most.
const GROUP: usize = 256;
/// How many events wait for a subscriber.
const BACKLOG: usize = 4096;

/// Where the floor listens and what it writes to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) async fn serve(arguments: Arguments) -> Result<()> {
    let pool = PgPool::connect(&std::env::var("LONGSHORE_DATABASE_URL")?).await?;
    sqlx::query("create table if not exists floor_deployments (id uuid primary key, name text not null unique, url text not null)")
        .execute(&pool)
        .await?;
    let (creations, waiting) = mpsc::channel(1024);
    tokio::spawn(commit(pool, waiting));
    let schema = Schema::build(Query, Mutation, Events)
        .data(creations)
        .data(broadcast::Sender::<Event>::new(BACKLOG))
        .finish();
    let app = Router::new()
        .route("/graphql", get(web_socket).post(post))
        .with_state(schema);
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    Ok(axum::serve(listener, app).await?)
}

struct Creation {
    id: Uuid,
    name: String,
    url: String,
    done: oneshot::Sender<Result<(), String>>,
}

async fn commit(pool: PgPool, mut waiting: mpsc::Receiver<Creation>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let ids: Vec<Uuid> = group
            .iter()
            .map(|creation: &Creation| creation.id)
            .collect();
        let names: Vec<&str> = group
            .iter()
            .map(|creation| creation.name.as_str())
            .collect();
        let urls: Vec<&str> = group.iter().map(|creation| creation.url.as_str()).collect();
        let insert = "insert into floor_deployments (id, name, url) select * from unnest($1::uuid[], $2::text[], $3::text[])";
        let written = sqlx::query(insert)
            .bind(&ids)
            .bind(&names)
            .bind(&urls)
            .execute(&pool)
            .await;
        let outcome = written.map(drop).map_err(|error| error.to_string());
        for creation in group.drain(..) {
            // Whoever asked may have gone.
            let _ = creation.done.send(outcome.clone());
        }
    }
}

struct Query;

#[Object]
impl Query {
    async fn ready(&self) -> bool {
        true
    }
}

#[derive(InputObject)]
struct Input {
    name: String,
    git: GitInput,
}

#[derive(InputObject)]
struct GitInput {
    url: String,
    poll_seconds: i32,
}

#[derive(SimpleObject)]
struct Deployment {
    id: ID,
    name: String,
    poll_seconds: i32,
}

struct Mutation;

#[Object]
impl Mutation {
    async fn create_deployment(
        &self,
        ctx: &Context<'_>,
        input: Input,
    ) -> async_graphql::Result<Deployment> {
        let id = Uuid::now_v7();
        let (done, written) = oneshot::channel();
        let creation = Creation {
            id,
            name: input.name.clone(),
            url: input.git.url,
            done,
        };
        ctx.data::<mpsc::Sender<Creation>>()?.send(creation).await?;
        written.await??;
        // That nobody follows is no error.
        let _ = ctx
            .data::<broadcast::Sender<Event>>()?
            .send(Event::requested(id));
        Ok(Deployment {
            id: id.into(),
            name: input.name,
            poll_seconds: input.git.poll_seconds,
        })
    }
}

/// The same fields as a step of a revision.
#[derive(Clone, SimpleObject)]
struct Event {
    deployment_id: ID,
    revision_id: ID,
    revision: i32,
    epoch: i32,
    seq: i32,
    status: &'static str,
    failure_reason: Option<String>,
    detail: Option<String>,
    at: DateTime<Utc>,
}

impl Event {
    fn requested(id: Uuid) -> Self {
        Self {
            deployment_id: id.into(),
            revision_id: Uuid::now_v7().into(),
            revision: 1,
            epoch: 0,
            seq: 1,
            status: "REQUESTED",
            failure_reason: None,
            detail: None,
            at: Utc::now(),
        }
    }
}

struct Events;

#[Subscription]
impl Events {
    async fn deployment_status(
        &self,
        ctx: &Context<'_>,
    ) -> async_graphql::Result<impl Stream<Item = Event> + use<>> {
        let events = ctx.data::<broadcast::Sender<Event>>()?.subscribe();
        Ok(futures::stream::unfold(events, |mut events| async move {
            Some((events.recv().await.ok()?, events))
        }))
    }
}

async fn post(State(schema): State<Api>, body: String) -> impl IntoResponse {
    let answer = match serde_json::from_str::<async_graphql::Request>(&body) {
        Ok(request) => schema.execute(request).await,
        Err(error) => async_graphql::Response::from_errors(vec![async_graphql::ServerError::new(
            error.to_string(),
            None,
        )]),
    };
    axum::Json(answer)
}

async fn web_socket(State(schema): State<Api>, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade
        .protocols(ALL_WEBSOCKET_PROTOCOLS)
        .on_upgrade(move |socket| follow(schema, socket))
}

async fn follow(schema: Api, socket: WebSocket) {
    let (mut out, incoming) = socket.split();
    let texts = incoming.filter_map(|message| async move {
        match message {
            Ok(Message::Text(text)) => Some(text.to_string()),
            _ => None,
        }
    });
    let mut answers = Box::pin(Protocol::new(
        schema,
        texts.boxed(),
        WebSocketProtocols::GraphQLWS,
    ));
    while let Some(answer) = answers.next().await {
        let WsMessage::Text(text) = answer else {
            return;
        };
        if out.send(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
}
