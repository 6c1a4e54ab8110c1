//! Answers.

use super::media::Media;
use crate::auth::Unknown;
use crate::error::{self, ApiError, Code};
use ::http::{HeaderValue, StatusCode, header};
use axum::body::Body;
use axum::response::Response;

/// The answer to a request that was read: its status by the media type's rules.
pub(super) fn graphql(media: Media, response: async_graphql::Response) -> Response {
    let response = error::finish(response);
    if !error::is_request_error(&response) {
        return json(media, StatusCode::OK, &response);
    }
    let status = match media {
        Media::GraphqlResponse => StatusCode::BAD_REQUEST,
        Media::Json => StatusCode::OK,
    };
    json(
        media,
        status,
        &NotExecuted {
            errors: &response.errors,
        },
    )
}

/// A refusal without `data`: nothing was executed.
#[derive(serde::Serialize)]
struct NotExecuted<'a> {
    errors: &'a [async_graphql::ServerError],
}

/// A refusal by HTTP's means.
pub(crate) fn error(media: Media, status: StatusCode, code: Code, message: &str) -> Response {
    let response = error::refused(ApiError::new(code, message));
    json(
        media,
        status,
        &NotExecuted {
            errors: &response.errors,
        },
    )
}

/// The body is too large.
pub(super) fn too_large(media: Media) -> Response {
    let message = format!("a request has at most {} bytes", super::BODY_LIMIT);
    error(
        media,
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::InvalidInput,
        &message,
    )
}

/// Nobody we know asks.
pub(crate) fn unauthenticated(media: Media, unknown: Unknown) -> Response {
    let mut response = error(
        media,
        StatusCode::UNAUTHORIZED,
        Code::Unauthenticated,
        unknown.message(),
    );
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"longshore\""),
    );
    response
}

/// The method is not one of `allowed`.
pub(super) fn method_not_allowed(media: Media, allowed: &'static str, message: &str) -> Response {
    let mut response = error(
        media,
        StatusCode::METHOD_NOT_ALLOWED,
        Code::InvalidInput,
        message,
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(media: Media, status: StatusCode, body: &impl serde::Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(body) {
        Ok(body) => (status, body),
        Err(failed) => {
            tracing::error!(error = %failed, "an answer could not be written");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                br#"{"errors":[{"message":"an internal error","extensions":{"code":"INTERNAL"}}]}"#
                    .to_vec(),
            )
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media.content_type());
    response
}
