//! `/graphql`: POST and GET by the GraphQL-over-HTTP specification, and the upgrade to a WebSocket.

use super::media::{self, Media};
use super::request::{Asked, Malformed, Prepared};
use super::{App, BODY_LIMIT, BODY_TIMEOUT, EXECUTE_TIMEOUT, reply};
use crate::auth::Caller;
use crate::error::{ApiError, Code, refused};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode};
use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::sync::Arc;

/// A request in a body.
pub(super) async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    answer(&parts.headers, async |media| {
        let caller = app
            .token
            .check_headers(&parts.headers)
            .map_err(|unknown| reply::unauthenticated(media, unknown))?;
        if !media::is_json(&parts.headers) {
            let message = "send `Content-Type: application/json`, in UTF-8";
            return Err(reply::error(
                media,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidInput,
                message,
            ));
        }
        let body = read(media, body).await?;
        let asked = Asked::from_json(&body).map_err(|malformed| bad_request(media, &malformed))?;
        Ok(execute(&app, media, asked, caller, &Method::POST).await)
    })
    .await
}

/// A query in the URL, or the upgrade to a WebSocket.
pub(super) async fn get(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if crate::ws::is_upgrade(&parts.headers) {
        return crate::ws::upgrade(&app, &mut parts).await;
    }
    answer(&parts.headers, async |media| {
        get_query(&app, media, &parts).await
    })
    .await
}

async fn get_query(app: &App, media: Media, parts: &Parts) -> Result<Response, Response> {
    let caller = app
        .token
        .check_headers(&parts.headers)
        .map_err(|unknown| reply::unauthenticated(media, unknown))?;
    let asked = Asked::from_query_string(parts.uri.query().unwrap_or_default())
        .map_err(|malformed| bad_request(media, &malformed))?;
    Ok(execute(app, media, asked, caller, &Method::GET).await)
}

/// Any other method.
pub(super) async fn method_not_allowed(method: Method) -> Response {
    reply::method_not_allowed(
        Media::Json,
        "GET, POST",
        &format!("send a request with POST, not with {method}"),
    )
}

/// Answers in what the client reads.
async fn answer(
    headers: &HeaderMap,
    answer: impl AsyncFnOnce(Media) -> Result<Response, Response>,
) -> Response {
    match media::wanted(headers) {
        Some(media) => answer(media).await.unwrap_or_else(|refusal| refusal),
        None => {
            let message =
                "answers are written as application/graphql-response+json or application/json";
            reply::error(
                Media::Json,
                StatusCode::NOT_ACCEPTABLE,
                Code::InvalidInput,
                message,
            )
        }
    }
}

/// Reads a body of bounded size in bounded time.
async fn read(media: Media, body: Body) -> Result<Bytes, Response> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect());
    match body.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(reply::too_large(media)),
        Ok(Err(_)) => Err(bad_request(
            media,
            &Malformed("the body ended early".to_owned()),
        )),
        Err(_) => Err(reply::error(
            media,
            StatusCode::REQUEST_TIMEOUT,
            Code::InvalidInput,
            "the body took too long to arrive",
        )),
    }
}

fn bad_request(media: Media, malformed: &Malformed) -> Response {
    reply::error(
        media,
        StatusCode::BAD_REQUEST,
        Code::InvalidInput,
        &malformed.0,
    )
}

async fn execute(
    app: &App,
    media: Media,
    asked: Asked,
    caller: Caller,
    method: &Method,
) -> Response {
    let Prepared {
        request, operation, ..
    } = match asked.prepare(caller, &app.document_limits) {
        Ok(prepared) => prepared,
        Err(error) => return reply::graphql(media, refused(error)),
    };
    if operation == Some(OperationType::Mutation) && *method == Method::GET {
        // A link or an image on any page could send it.
        return reply::method_not_allowed(media, "POST", "a mutation is sent with POST");
    }
    if operation == Some(OperationType::Subscription) {
        let message =
            "a subscription is followed over a WebSocket (graphql-transport-ws) on this path";
        return reply::graphql(media, refused(ApiError::new(Code::InvalidInput, message)));
    }
    match tokio::time::timeout(EXECUTE_TIMEOUT, app.api.execute(request)).await {
        Ok(response) => reply::graphql(media, response),
        Err(_) => {
            let message = format!(
                "no answer within {} s; a mutation may or may not have been recorded",
                EXECUTE_TIMEOUT.as_secs()
            );
            reply::error(
                media,
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                &message,
            )
        }
    }
}
