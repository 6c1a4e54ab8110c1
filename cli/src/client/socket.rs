//! Subscriptions: one WebSocket speaking `graphql-transport-ws`.
//!
//! A socket is owned by one task that reads it. It notices a dead connection by itself (it pings, and
//! gives up when nothing was heard for a while); connecting again is its owner's business, who also
//! reads the current state again, so that nothing is missed.

use super::document::Document;
use super::error::ClientError;
use super::http::{Client, GraphqlError};
use futures::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PROTOCOL: &str = "graphql-transport-ws";

/// How long connecting and signing in may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long without any sign of life a connection counts as alive.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// An open connection, signed in.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    url: String,
    next_id: u32,
    pings: Interval,
    heard: Instant,
}

/// What the server says about one subscription.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    /// One answer; its `data`.
    Next { id: u32, data: Value },
    /// It is over, in order.
    Complete { id: u32 },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Outgoing<'a> {
    ConnectionInit { payload: Init<'a> },
    Subscribe { id: String, payload: Subscribe<'a> },
    Pong,
}

#[derive(Serialize)]
struct Init<'a> {
    #[serde(rename = "Authorization", skip_serializing_if = "Option::is_none")]
    authorization: Option<&'a str>,
}

#[derive(Serialize)]
struct Subscribe<'a> {
    query: &'a str,
    variables: Value,
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    payload: Option<Value>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

impl Client {
    /// Opens a connection for subscriptions.
    pub(crate) async fn socket(&self) -> Result<Socket, ClientError> {
        let url = self.access.shown();
        let opening = timeout(CONNECT_TIMEOUT, self.open(&url)).await;
        opening.unwrap_or_else(|_| {
            Err(ClientError::Lost {
                url,
                reason: "no answer in time".to_owned(),
            })
        })
    }

    async fn open(&self, url: &str) -> Result<Socket, ClientError> {
        let refused = |error: WsError| refusal(url, error);
        let mut request = self
            .access
            .graphql_socket()
            .as_str()
            .into_client_request()
            .map_err(refused)?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        let (stream, _) = connect_async(request).await.map_err(refused)?;
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut socket = Socket {
            stream,
            url: url.to_owned(),
            next_id: 1,
            pings,
            heard: Instant::now(),
        };
        let bearer = self
            .access
            .token
            .as_ref()
            .map(|token| format!("Bearer {}", token.expose_secret()));
        socket
            .send(&Outgoing::ConnectionInit {
                payload: Init {
                    authorization: bearer.as_deref(),
                },
            })
            .await?;
        loop {
            if socket.receive().await?.kind == "connection_ack" {
                return Ok(socket);
            }
        }
    }
}

impl Socket {
    /// Starts a subscription; its answers carry the id that is given back.
    pub(crate) async fn subscribe(
        &mut self,
        document: Document,
        variables: Value,
    ) -> Result<u32, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let text = document.text();
        self.send(&Outgoing::Subscribe {
            id: id.to_string(),
            payload: Subscribe {
                query: &text,
                variables,
            },
        })
        .await?;
        Ok(id)
    }

    /// The next answer of any subscription. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<SocketEvent, ClientError> {
        loop {
            let incoming = self.receive().await?;
            let id = incoming.id.as_deref().and_then(|id| id.parse().ok());
            match (incoming.kind.as_str(), id, incoming.payload) {
                ("next", Some(id), Some(payload)) => return self.answer(id, payload),
                ("complete", Some(id), _) => return Ok(SocketEvent::Complete { id }),
                ("error", _, Some(payload)) => {
                    let errors: Vec<GraphqlError> =
                        serde_json::from_value(payload).map_err(ClientError::NotUnderstood)?;
                    let error = errors.into_iter().next().unwrap_or_default();
                    return Err(error.into_client_error(&self.url));
                }
                ("ping", ..) => self.send(&Outgoing::Pong).await?,
                // A pong, or a word of a later protocol.
                _ => {}
            }
        }
    }

    fn answer(&self, id: u32, payload: Value) -> Result<SocketEvent, ClientError> {
        let answer: Answer = serde_json::from_value(payload).map_err(ClientError::NotUnderstood)?;
        if let Some(error) = answer.errors.into_iter().next() {
            return Err(error.into_client_error(&self.url));
        }
        answer
            .data
            .map(|data| SocketEvent::Next { id, data })
            .ok_or_else(|| self.lost("an answer without data"))
    }

    /// The next message of the protocol.
    async fn receive(&mut self) -> Result<Incoming, ClientError> {
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message,
                _ = self.pings.tick() => {
                    if self.heard.elapsed() > SILENCE_LIMIT {
                        return Err(self.lost("the server is silent"));
                    }
                    self.stream.send(Message::Ping(Vec::new().into())).await.map_err(|error| refusal(&self.url, error))?;
                    continue;
                }
            };
            self.heard = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(ClientError::NotUnderstood);
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.to_string())
                    });
                    return Err(self.closed(code, &reason));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(refusal(&self.url, error)),
                None => return Err(self.lost("it was closed")),
            }
        }
    }

    /// What the protocol's close codes mean.
    fn closed(&self, code: u16, reason: &str) -> ClientError {
        match code {
            // Unauthorized, Forbidden.
            4401 | 4403 => ClientError::of_graphql(
                &self.url,
                "UNAUTHENTICATED",
                if reason.is_empty() {
                    "no valid token"
                } else {
                    reason
                },
            ),
            _ => self.lost(&format!(
                "closed with {code} {}",
                crate::output::line(reason)
            )),
        }
    }

    async fn send(&mut self, message: &Outgoing<'_>) -> Result<(), ClientError> {
        let text = serde_json::to_string(message).map_err(ClientError::NotUnderstood)?;
        self.stream
            .send(Message::Text(text.into()))
            .await
            .map_err(|error| refusal(&self.url, error))
    }

    fn lost(&self, reason: &str) -> ClientError {
        ClientError::Lost {
            url: self.url.clone(),
            reason: reason.trim_end().to_owned(),
        }
    }
}

fn refusal(url: &str, error: WsError) -> ClientError {
    let url = url.to_owned();
    match error {
        WsError::Http(response) if matches!(response.status().as_u16(), 401 | 403) => {
            ClientError::NotAllowed {
                url,
                message: "no valid token".to_owned(),
            }
        }
        WsError::Http(response) => ClientError::NotLongshore {
            url,
            found: format!("HTTP {}", response.status().as_u16()),
        },
        WsError::Io(error) => ClientError::NoConnection {
            url,
            source: error.into(),
        },
        error => ClientError::Lost {
            url,
            reason: error.to_string(),
        },
    }
}
