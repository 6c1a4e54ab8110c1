//! Queries and mutations over HTTP.

use super::access::Access;
use super::document::Document;
use super::error::ClientError;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a connection may take, and how long an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(super) access: Access,
    http: reqwest::Client,
}

#[derive(Serialize)]
struct Request<'a, V> {
    query: &'a str,
    variables: V,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<serde_json::Value>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

/// One error of an answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GraphqlError {
    message: String,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Debug, Default, Deserialize)]
struct Extensions {
    #[serde(default)]
    code: String,
}

impl GraphqlError {
    pub(super) fn into_client_error(self, url: &str) -> ClientError {
        ClientError::of_graphql(url, &self.extensions.code, &self.message)
    }
}

impl Client {
    /// For the server and caller in `access`. Does not connect yet.
    pub(crate) fn new(access: Access) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // The token goes to the server that was named, to nobody it points at.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build();
        let http = http.map_err(|error| ClientError::NoConnection {
            url: access.shown(),
            source: error.into(),
        })?;
        Ok(Self { access, http })
    }

    /// The server's address, for messages.
    pub(crate) fn address(&self) -> String {
        self.access.shown()
    }

    /// Sends a query or mutation and reads its data.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        document: Document,
        variables: impl Serialize,
    ) -> Result<T, ClientError> {
        let url = self.access.shown();
        let text = document.text();
        let mut request = self.http.post(self.access.graphql()).json(&Request {
            query: &text,
            variables,
        });
        if let Some(token) = &self.access.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request
            .send()
            .await
            .map_err(|error| ClientError::NoConnection {
                url: url.clone(),
                source: error.without_url().into(),
            })?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| ClientError::Lost {
            url: url.clone(),
            reason: error.without_url().to_string(),
        })?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&body) else {
            return Err(ClientError::NotLongshore {
                url,
                found: format!("HTTP {}", status.as_u16()),
            });
        };
        if let Some(error) = answer.errors.into_iter().next() {
            return Err(error.into_client_error(&url));
        }
        match answer.data {
            Some(data) => serde_json::from_value(data).map_err(ClientError::NotUnderstood),
            None => Err(ClientError::NotLongshore {
                url,
                found: format!("HTTP {}", status.as_u16()),
            }),
        }
    }
}
