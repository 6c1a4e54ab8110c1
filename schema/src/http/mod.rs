//! The way in over HTTP.

mod graphql;
mod media;
mod page;
mod probe;
mod reply;
pub(crate) mod request;

use crate::Api;
use crate::auth::AdminToken;
use crate::guard::DocumentLimits;
use crate::metrics::Metrics;
use crate::ws::{WebSocketLimits, WebSockets};
use ::http::{HeaderValue, Method, StatusCode, header};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;
use orchestrator::Orchestrator;
use probe::Readiness;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use media::Media;
pub(crate) use reply::{error as error_reply, unauthenticated as unauthenticated_reply};

/// The largest body of a request, in bytes.
pub(crate) const BODY_LIMIT: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a query or mutation may take.
const EXECUTE_TIMEOUT: Duration = Duration::from_secs(30);

/// What every handler needs.
pub(crate) struct App {
    pub(crate) api: Api,
    pub(crate) token: Arc<AdminToken>,
    pub(crate) document_limits: Arc<DocumentLimits>,
    pub(crate) web_sockets: WebSockets,
    readiness: Arc<Readiness>,
    metrics: Metrics,
}

impl App {
    pub(crate) fn new(
        orchestrator: Orchestrator,
        token: AdminToken,
        metrics: Metrics,
        web_sockets: WebSocketLimits,
    ) -> Self {
        Self {
            api: crate::api(orchestrator.clone()),
            token: Arc::new(token),
            document_limits: Arc::new(DocumentLimits::default()),
            web_sockets: WebSockets::new(web_sockets),
            readiness: Arc::new(Readiness::new(orchestrator)),
            metrics,
        }
    }
}

/// Everything that is served.
pub(crate) fn router(app: App) -> Router {
    let app = Arc::new(app);
    // Without a token: whether the process is alive, and a page that asks for one.
    let open = Router::new()
        .route("/healthz", get(probe::alive))
        .route("/readyz", get(probe::ready))
        .route("/graphiql", get(page::index))
        .route("/graphiql/{file}", get(page::asset));
    let signed_in = Router::new()
        .route("/metrics", get(probe::metrics))
        .route_layer(from_fn_with_state(app.clone(), signed_in));
    // Signs in by itself: a WebSocket may bring its token later.
    let graphql = Router::new().route(
        "/graphql",
        get(graphql::get)
            .post(graphql::post)
            .fallback(graphql::method_not_allowed),
    );
    open.merge(signed_in)
        .merge(graphql)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        // One stack: each `layer` of its own would wrap every route once more, for every request.
        .layer((
            CatchPanicLayer::custom(panicked),
            map_response(guard_headers),
            from_fn(count),
            from_fn(declared_size),
        ))
        .with_state(app)
}

/// Headers of every answer that does not say them differently.
async fn guard_headers(mut response: Response) -> Response {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Lets only those through who bring the token.
async fn signed_in(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.token.check_headers(request.headers()) {
        Ok(_) => next.run(request).await,
        Err(unknown) => reply::unauthenticated(media::Media::Json, unknown),
    }
}

/// Refuses a body that says of itself that it is too large, before anything else is looked at.
async fn declared_size(request: Request, next: Next) -> Response {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    match declared.map(str::parse::<u64>) {
        Some(Ok(length)) if length > BODY_LIMIT as u64 => reply::too_large(media::Media::Json),
        _ => next.run(request).await,
    }
}

/// Counts answers.
async fn count(request: Request, next: Next) -> Response {
    let route = match request.uri().path() {
        path @ ("/graphql" | "/metrics" | "/healthz" | "/readyz") => path,
        path if path.starts_with("/graphiql") => "/graphiql",
        // Paths that somebody made up would each be a figure of their own.
        _ => "other",
    };
    let route = route.to_owned();
    let response = next.run(request).await;
    metrics::counter!("longshore_http_answers_total", "route" => route, "status" => response.status().as_str().to_owned()).increment(1);
    response
}

async fn not_found() -> Response {
    reply::error(
        media::Media::Json,
        StatusCode::NOT_FOUND,
        crate::error::Code::NotFound,
        "there is nothing at this path",
    )
}

async fn method_not_allowed(method: Method) -> Response {
    reply::method_not_allowed(
        media::Media::Json,
        "GET",
        &format!("{method} is not possible here"),
    )
}

/// A mistake of ours in a handler: the process goes on.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(
        panic = text.unwrap_or("not a text"),
        "a request handler panicked"
    );
    reply::error(
        media::Media::Json,
        StatusCode::INTERNAL_SERVER_ERROR,
        crate::error::Code::Internal,
        "an internal error",
    )
}
