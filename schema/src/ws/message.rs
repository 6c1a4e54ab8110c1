//! The messages of `graphql-transport-ws`.

use super::close::Close;
use crate::auth::{AdminToken, Caller, Unknown};
use crate::http::request::Asked;
use async_graphql::{Response, ServerError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest id of a subscription, in bytes.
const ID_LIMIT: usize = 128;

/// From a client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromClient {
    /// Who it is.
    ConnectionInit { payload: Option<Map<String, Value>> },
    /// Whether we are there.
    Ping,
    /// It is there.
    Pong,
    /// What it wants to follow or ask.
    Subscribe { id: String, payload: Asked },
    /// What it does not want any more.
    Complete { id: String },
}

/// To a client.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToClient<'a> {
    /// It is known.
    ConnectionAck,
    /// We are there.
    Pong,
    /// One answer.
    Next { id: &'a str, payload: &'a Response },
    /// What was asked is not executed.
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    /// There is no further answer.
    Complete { id: &'a str },
}

impl FromClient {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Close::BadMessage`].
    pub(super) fn read(text: &str) -> Result<Self, Close> {
        let message = serde_json::from_str(text)
            .map_err(|_| Close::BadMessage("not a message of graphql-transport-ws"))?;
        match &message {
            Self::Subscribe { id, .. } | Self::Complete { id }
                if id.is_empty() || id.len() > ID_LIMIT =>
            {
                Err(Close::BadMessage("an id has 1 to 128 bytes"))
            }
            _ => Ok(message),
        }
    }
}

/// The token in the payload of `connection_init`, checked.
pub(super) fn check_init(
    token: &AdminToken,
    payload: Option<&Map<String, Value>>,
) -> Result<Caller, Unknown> {
    let payload = payload.ok_or(Unknown::Missing)?;
    let text = |wanted: &str| {
        let found = payload
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str().unwrap_or_default().as_bytes())
    };
    match (text("authorization"), text("token")) {
        (Some(bearer), None) => token.check_bearer(bearer),
        (None, Some(plain)) => token.check(plain),
        (None, None) => Err(Unknown::Missing),
        (Some(_), Some(_)) => Err(Unknown::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_message_is_refused() {
        for right in [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{"type":"ping","payload":{"a":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}"}}"#,
            r#"{"id":"1","type":"complete"}"#,
        ] {
            assert!(FromClient::read(right).is_ok(), "{right}");
        }
        let long = format!(r#"{{"type":"complete","id":"{}"}}"#, "x".repeat(129));
        for wrong in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"type":"start"}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":1}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            &long,
        ] {
            assert!(FromClient::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_token_comes_in_either_form() {
        const TOKEN: &str = "0123456789abcdef";
        let token = AdminToken::new(&TOKEN.into()).unwrap();
        let check = |payload: &str| {
            check_init(
                &token,
                serde_json::from_str::<Option<Map<String, Value>>>(payload)
                    .unwrap()
                    .as_ref(),
            )
            .err()
        };
        assert_eq!(
            check(r#"{"Authorization":"Bearer 0123456789abcdef"}"#),
            None
        );
        assert_eq!(
            check(r#"{"authorization":"bearer 0123456789abcdef"}"#),
            None
        );
        assert_eq!(check(r#"{"token":"0123456789abcdef"}"#), None);
        assert_eq!(check("null"), Some(Unknown::Missing));
        assert_eq!(check(r#"{"other":1}"#), Some(Unknown::Missing));
        for wrong in [
            r#"{"token":"x"}"#,
            r#"{"token":null}"#,
            r#"{"Authorization":"0123456789abcdef"}"#,
            r#"{"token":"0123456789abcdef","authorization":"x"}"#,
        ] {
            assert_eq!(check(wrong), Some(Unknown::Wrong), "{wrong}");
        }
    }
}
