//! The way in over a WebSocket, speaking `graphql-transport-ws`.
//!
//! The protocol's own closing codes are kept: 4400 for what is not a message of it, 4401 for a
//! subscription before the server knows who asks, 4403 for a wrong token, 4408 when no
//! `connection_init` comes, 4409 for an id that is in use, 4429 for a second `connection_init`.
//! The token comes in the payload of `connection_init`, as `{"Authorization": "Bearer <token>"}` or
//! `{"token": "<token>"}`, or in the `Authorization` header of the upgrade.

mod close;
mod connection;
mod message;
mod shared;

use crate::auth::{Caller, Unknown};
use crate::error::Code;
use crate::http::{App, Media, error_reply, unauthenticated_reply};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse as _, Response};
use connection::{Connection, Session};
use futures::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use shared::Feeds;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The one subprotocol that is spoken.
const PROTOCOL: &str = "graphql-transport-ws";

/// The largest message from a client, in bytes.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// How much is collected before it is written although more is to come, in bytes.
const WRITE_AHEAD: usize = 4 * 1024;
/// How much is read at once, in bytes: kept for each connection, and clients say little.
const READ_BUFFER: usize = 2 * 1024;
/// The largest message to a client, in bytes: an answer of the largest page.
const WRITE_LIMIT: usize = 16 * 1024 * 1024;

/// What WebSockets may take.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketLimits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Subscriptions at once on one connection.
    pub(crate) subscriptions: usize,
    /// How long a client may take to say who it is.
    pub(crate) init_timeout: Duration,
    /// How often a client is asked whether it is there; it is given up after two silent times.
    pub(crate) keep_alive: Duration,
    /// How long a client may take to read one message.
    pub(crate) send_timeout: Duration,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            subscriptions: 100,
            init_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(20),
            send_timeout: Duration::from_secs(10),
        }
    }
}

/// All open WebSockets of a server.
#[derive(Clone)]
pub(crate) struct WebSockets {
    limits: Arc<WebSocketLimits>,
    places: Arc<Semaphore>,
    open: TaskTracker,
    stop: CancellationToken,
    feeds: Feeds,
}

impl WebSockets {
    pub(crate) fn new(limits: WebSocketLimits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self {
            limits: Arc::new(limits),
            places,
            open: TaskTracker::new(),
            stop: CancellationToken::new(),
            feeds: Feeds::default(),
        }
    }

    /// Tells every client that the server goes away, and waits until they are gone.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

/// Whether a request wants to become a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Makes a request a WebSocket, or says why not.
pub(crate) async fn upgrade(app: &App, parts: &mut Parts) -> Response {
    match accept(app, parts).await {
        Ok(response) | Err(response) => response,
    }
}

async fn accept(app: &App, parts: &mut Parts) -> Result<Response, Response> {
    if !is_same_origin(&parts.headers, &parts.uri) {
        let message = "a page of another origin may not connect";
        return Err(error_reply(
            Media::Json,
            StatusCode::FORBIDDEN,
            Code::Forbidden,
            message,
        ));
    }
    // A token that is there must be right; none at all may still come with `connection_init`.
    let caller = match app.token.check_headers(&parts.headers) {
        Ok(caller) => Some(caller),
        Err(Unknown::Missing) => None,
        Err(unknown @ Unknown::Wrong) => return Err(unauthenticated_reply(Media::Json, unknown)),
    };
    let Ok(place) = Arc::clone(&app.web_sockets.places).try_acquire_owned() else {
        let message = "too many connections are open; try again later";
        return Err(error_reply(
            Media::Json,
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            message,
        ));
    };
    let upgrade = WebSocketUpgrade::from_request_parts(parts, app).await;
    let upgrade = upgrade
        .map_err(axum::response::IntoResponse::into_response)?
        .protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let message = format!("ask for the WebSocket subprotocol {PROTOCOL}");
        return Err(error_reply(
            Media::Json,
            StatusCode::BAD_REQUEST,
            Code::InvalidInput,
            &message,
        ));
    }
    let upgrade = upgrade
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_AHEAD)
        .max_write_buffer_size(WRITE_LIMIT);
    let session = session(app, caller);
    let open = app.web_sockets.open.clone();
    let response = upgrade.on_upgrade(move |socket| {
        open.track_future(async move {
            metrics::gauge!("longshore_websockets_open").increment(1.0);
            Connection::new(socket, session).run().await;
            metrics::gauge!("longshore_websockets_open").decrement(1.0);
            drop(place);
        })
    });
    Ok(response.into_response())
}

fn session(app: &App, caller: Option<Caller>) -> Session {
    let (api, token, document_limits) = (
        app.api.clone(),
        Arc::clone(&app.token),
        Arc::clone(&app.document_limits),
    );
    Session {
        caller,
        token,
        document_limits,
        limits: Arc::clone(&app.web_sockets.limits),
        feeds: app.web_sockets.feeds.clone(),
        execute: Box::new(move |request| api.execute_stream(request).boxed()),
        stop: app.web_sockets.stop.clone(),
    }
}

/// Whether a browser that sent this shows a page of this server. Other clients name no origin.
fn is_same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()));
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    match (origin, host) {
        (Some(origin), Some(host)) => origins.next().is_none() && origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_page_elsewhere_may_not_connect() {
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::HOST,
                HeaderValue::from_static("longshore.example:4000"),
            );
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            is_same_origin(&headers, &Uri::from_static("/graphql"))
        };
        assert!(check("http://longshore.example:4000"));
        assert!(check("https://LONGSHORE.example:4000"));
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://longshore.example",
            "http://longshore.example:4000.evil.example",
            "file://",
        ] {
            assert!(!check(origin), "{origin}");
        }
        assert!(is_same_origin(
            &HeaderMap::new(),
            &Uri::from_static("/graphql")
        ));
    }
}
