//! `/graphiql`: the page for trying the API, with all that it needs inside the binary.

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

/// The files of the page. Their versions and licences stand in `graphiql/README.md`.
#[derive(RustEmbed)]
#[folder = "graphiql/"]
#[include = "*.html"]
#[include = "*.js"]
#[include = "*.css"]
struct Files;

/// Scripts and connections of this server only, none inside the page. GraphiQL sets styles on
/// elements and brings its fonts and images inside its style sheet.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page.
pub(super) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// One of its files.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    file(&name, &headers)
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    // Only names that were there when the binary was built are found; no path is ever opened.
    let Some(file) = Files::get(name) else {
        return super::reply::error(
            super::media::Media::Json,
            StatusCode::NOT_FOUND,
            crate::error::Code::NotFound,
            "the page has no such file",
        );
    };
    let Some(tag) = tag(&file) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| *value == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        body(file)
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(name));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag);
    response
}

fn body(file: EmbeddedFile) -> Response {
    let body = match file.data {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    };
    Response::new(body)
}

/// What changes when the file does: the first half of its SHA-256.
fn tag(file: &EmbeddedFile) -> Option<HeaderValue> {
    let hash: String = file
        .metadata
        .sha256_hash()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("\"{hash}\"")).ok()
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "application/octet-stream",
        },
    )
}
