//! What goes wrong, as the API says it: one shape, `extensions.code`, and nothing private.

use async_graphql::{ErrorExtensions, Response, ServerError, Value};
use orchestrator::CommandError;
use uuid::Uuid;

/// The closed list of codes. Names that must not change once shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// What was named does not exist, or may not be seen.
    NotFound,
    /// What was given is not right; trying again does not help.
    InvalidInput,
    /// What was asked for contradicts what is.
    Conflict,
    /// Nobody, or nobody known, asked.
    Unauthenticated,
    /// Whoever asked may not.
    Forbidden,
    /// Something that is needed does not answer now.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// As it stands in `extensions.code`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::InvalidInput => "INVALID_INPUT",
            Self::Conflict => "CONFLICT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// Why a resolver has no answer. Not `Display` on purpose: async-graphql turns anything that is
/// into an error without a code.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    code: Code,
    message: String,
    /// The field of the input that is not right.
    field: Option<&'static str>,
    /// Under what the log has the rest.
    correlation: Option<Uuid>,
}

/// The answer of a nullable field. In this order, and not the other way round: async-graphql then makes
/// the field null and keeps what stands beside it, as the specification wants.
pub(crate) type Maybe<T> = Option<Result<T, ApiError>>;

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            correlation: None,
        }
    }

    /// An argument that is not right.
    pub(crate) fn invalid(field: &'static str, message: impl std::fmt::Display) -> Self {
        Self {
            field: Some(field),
            ..Self::new(Code::InvalidInput, format!("{field}: {message}"))
        }
    }

    /// A fault of ours: the log gets it, the caller a number to ask by.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let correlation = Uuid::now_v7();
        tracing::error!(%correlation, error = chain(cause), "a request failed");
        Self::internal_as(correlation)
    }

    fn internal_as(correlation: Uuid) -> Self {
        let message = format!("an internal error; the server's log has it under {correlation}");
        Self {
            correlation: Some(correlation),
            ..Self::new(Code::Internal, message)
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::NotFound { .. } => Self::new(Code::NotFound, message),
            CommandError::InvalidInput { field, .. } => Self {
                field: Some(field),
                ..Self::new(Code::InvalidInput, message)
            },
            CommandError::Conflict { .. } => Self::new(Code::Conflict, message),
            CommandError::Unauthenticated { .. } => Self::new(Code::Unauthenticated, message),
            CommandError::Forbidden { .. } => Self::new(Code::Forbidden, message),
            CommandError::Unavailable { source, .. } => {
                if let Some(source) = source {
                    tracing::warn!(
                        error = chain(source.as_ref()),
                        "a request could not be served: {message}"
                    );
                }
                Self::new(Code::Unavailable, message)
            }
            CommandError::Internal(source) => Self::internal(source.as_ref()),
        }
    }
}

impl From<ApiError> for async_graphql::Error {
    fn from(error: ApiError) -> Self {
        Self::new(error.message).extend_with(|_, extensions| {
            extensions.set("code", error.code.as_str());
            if let Some(field) = error.field {
                extensions.set("field", field);
            }
            if let Some(correlation) = error.correlation {
                extensions.set("correlationId", correlation.to_string());
            }
        })
    }
}

impl From<ApiError> for ServerError {
    fn from(error: ApiError) -> Self {
        let error = async_graphql::Error::from(error);
        Self {
            extensions: error.extensions,
            ..Self::new(error.message, None)
        }
    }
}

/// How many errors one answer holds, and how long each may be: a document with a thousand mistakes
/// is answered with the first few, in less than 4 KiB.
const ERRORS_LIMIT: usize = 8;
const MESSAGE_LIMIT: usize = 320;

/// Gives every error of an answer its code and bounds what is said.
pub(crate) fn finish(mut response: Response) -> Response {
    let more = response.errors.len().saturating_sub(ERRORS_LIMIT);
    response.errors.truncate(ERRORS_LIMIT);
    for error in &mut response.errors {
        finish_error(error);
    }
    if more > 0 {
        response = response.extension("errorsOmitted", Value::from(more as u64));
    }
    response
}

fn finish_error(error: &mut ServerError) {
    let has_code = error
        .extensions
        .as_ref()
        .is_some_and(|extensions| extensions.get("code").is_some());
    if !has_code {
        // Our resolvers name a code, always: what has none is said by the framework of a document,
        // its variables or an argument.
        error
            .extensions
            .get_or_insert_default()
            .set("code", Code::InvalidInput.as_str());
        error.message = shown_within(&error.message, MESSAGE_LIMIT);
    }
    error.locations.truncate(4);
    error.path.truncate(16);
}

/// Escapes and cuts text that may repeat what a caller sent.
fn shown_within(text: &str, limit: usize) -> String {
    if text.len() <= limit && !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut cut = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == limit {
            cut.push('…');
            break;
        }
        if c.is_control() {
            cut.extend(c.escape_debug())
        } else {
            cut.push(c)
        }
    }
    cut
}

/// Whether an answer is a refusal of the request as a whole: nothing was executed.
pub(crate) fn is_request_error(response: &Response) -> bool {
    response.is_err()
        && response.data == Value::Null
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// The answer to a request that is not executed.
pub(crate) fn refused(error: ApiError) -> Response {
    Response::from_errors(vec![error.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: &ServerError) -> Option<&Value> {
        error
            .extensions
            .as_ref()
            .and_then(|extensions| extensions.get("code"))
    }

    #[test]
    fn an_internal_error_keeps_its_cause_to_itself() {
        let secret = std::io::Error::other("password is hunter2");
        let error = ServerError::from(ApiError::from(CommandError::Internal(Box::new(secret))));
        let text = serde_json::to_string(&error).unwrap();
        assert!(
            text.contains("INTERNAL") && text.contains("correlationId"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn every_error_has_a_code_and_an_answer_is_short() {
        let errors = (0..5_000)
            .map(|n| ServerError::new(format!("{n}\n{}", "x".repeat(60_000)), None))
            .collect();
        let response = finish(Response::from_errors(errors));
        assert!(
            response
                .errors
                .iter()
                .all(|error| code(error) == Some(&Value::from("INVALID_INPUT")))
        );
        let body = serde_json::to_string(&response).unwrap();
        assert!(body.len() <= 4096, "{} bytes", body.len());
    }

    #[test]
    fn a_codes_words_are_those_of_the_engine() {
        for (error, code) in [
            (CommandError::not_found("node", "x"), Code::NotFound),
            (CommandError::invalid("name", "x"), Code::InvalidInput),
            (CommandError::conflict("x"), Code::Conflict),
        ] {
            assert_eq!(error.code(), code.as_str());
            assert_eq!(ApiError::from(error).code, code);
        }
    }
}
