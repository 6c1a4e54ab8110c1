//! One connection: a single task that reads, answers and tells, so that nothing piles up anywhere.
//!
//! Streams are asked for their next answer only while the client reads: a client that stops reading
//! stops its streams, and is closed when one message takes too long.

use super::WebSocketLimits;
use super::close::Close;
use super::message::{FromClient, ToClient, check_init};
use super::shared::{Feeds, Followed, Told};
use crate::auth::{AdminToken, Caller, Unknown};
use crate::error::{self, ApiError, Code};
use crate::guard::DocumentLimits;
use crate::http::request::{Asked, Prepared};
use async_graphql::{Request, Response};
use axum::extract::ws::{Message, Utf8Bytes};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;

/// How long a client may take to agree that the connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many answers leave together at most: then the client is listened to again.
const TOGETHER: usize = 64;

/// What a connection needs of its server.
pub(super) struct Session {
    /// Whoever proved at the upgrade who they are.
    pub(super) caller: Option<Caller>,
    pub(super) token: Arc<AdminToken>,
    pub(super) document_limits: Arc<DocumentLimits>,
    pub(super) limits: Arc<WebSocketLimits>,
    /// What is followed together with others.
    pub(super) feeds: Feeds,
    /// Answers a request.
    pub(super) execute: Box<dyn Fn(Request) -> BoxStream<'static, Response> + Send>,
    pub(super) stop: CancellationToken,
}

/// What a stream of answers comes to.
enum Answer {
    Next(Box<Response>),
    /// Written already, for all who follow the same.
    Told(Told),
    End,
}

/// A connection and what is open on it.
pub(super) struct Connection<S> {
    socket: S,
    session: Session,
    /// Who asks, once `connection_init` was answered.
    caller: Option<Caller>,
    streams: StreamMap<String, BoxStream<'static, Answer>>,
    keep_alive: Interval,
    /// Times in a row that the client was asked whether it is there and did not answer.
    silent: u32,
}

/// What happened last.
enum Event {
    Received(Option<Message>),
    TooLarge,
    Answered(String, Answer),
    KeepAlive,
    Close(Close),
}

/// The connection ends: with a reason for the client, or because the client is gone.
enum End {
    Close(Close),
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

impl<S, E> Connection<S>
where
    S: Stream<Item = Result<Message, E>> + Sink<Message> + Unpin + Send,
    E: std::fmt::Display,
{
    pub(super) fn new(socket: S, session: Session) -> Self {
        let every = session.limits.keep_alive;
        let mut keep_alive = interval_at(Instant::now() + every, every);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket,
            session,
            caller: None,
            streams: StreamMap::new(),
            keep_alive,
            silent: 0,
        }
    }

    /// Serves the connection until one side ends it.
    pub(super) async fn run(mut self) {
        let deadline = Instant::now() + self.session.limits.init_timeout;
        let end = loop {
            let event = self.event(deadline).await;
            let handled = match self.handle(event).await {
                Ok(()) => self.flush().await,
                ended => ended,
            };
            if let Err(end) = handled {
                break end;
            }
        };
        // What is followed ends before the farewell: it could only pile up.
        self.streams = StreamMap::new();
        if let End::Close(close) = end {
            tracing::debug!(code = close.code(), "a WebSocket is closed: {close:?}");
            self.farewell(&close).await;
        }
    }

    async fn event(&mut self, deadline: Instant) -> Event {
        tokio::select! {
            () = self.session.stop.cancelled() => Event::Close(Close::GoingAway),
            received = self.socket.next() => match received {
                Some(Ok(message)) => Event::Received(Some(message)),
                // The one error that the client can do something about.
                Some(Err(error)) if error.to_string().contains("too long") => Event::TooLarge,
                Some(Err(_)) | None => Event::Received(None),
            },
            Some((id, answer)) = self.streams.next(), if !self.streams.is_empty() => Event::Answered(id, answer),
            _ = self.keep_alive.tick() => Event::KeepAlive,
            () = tokio::time::sleep_until(deadline), if self.caller.is_none() => Event::Close(Close::InitTimeout),
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Received(Some(message)) => {
                self.silent = 0;
                self.received(message).await
            }
            Event::Received(None) => Err(End::Gone),
            Event::TooLarge => Err(Close::TooLarge.into()),
            Event::Answered(id, answer) => {
                self.answered(&id, answer).await?;
                self.answer_what_is_there().await
            }
            Event::KeepAlive if self.silent >= 2 => {
                Err(Close::Unresponsive("No answer to pings").into())
            }
            Event::KeepAlive => {
                self.silent += 1;
                self.feed(Message::Ping(bytes::Bytes::new())).await
            }
            Event::Close(close) => Err(close.into()),
        }
    }

    /// Answers that have come meanwhile leave together with the first.
    async fn answer_what_is_there(&mut self) -> Result<(), End> {
        for _ in 1..TOGETHER {
            let Some(Some((id, answer))) = self.streams.next().now_or_never() else {
                break;
            };
            self.answered(&id, answer).await?;
        }
        Ok(())
    }

    async fn received(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Close::BadMessage("not text").into()),
            Message::Close(_) => return Err(End::Gone),
            // Pings are answered by the transport.
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        match FromClient::read(&text)? {
            FromClient::ConnectionInit { payload } => {
                if self.caller.is_some() {
                    return Err(Close::InitTwice.into());
                }
                self.caller = Some(self.check_init(payload.as_ref())?);
                self.tell(&ToClient::ConnectionAck).await
            }
            FromClient::Ping => self.tell(&ToClient::Pong).await,
            FromClient::Pong => Ok(()),
            FromClient::Subscribe { id, payload } => {
                let caller = self.caller.ok_or(Close::Unauthorized)?;
                self.subscribe(id, payload, caller).await
            }
            FromClient::Complete { id } => {
                // One that ended by itself a moment ago is no mistake.
                self.streams.remove(&id);
                Ok(())
            }
        }
    }

    fn check_init(
        &self,
        payload: Option<&serde_json::Map<String, serde_json::Value>>,
    ) -> Result<Caller, Close> {
        match (
            check_init(&self.session.token, payload),
            self.session.caller,
        ) {
            (Ok(caller), _) | (Err(Unknown::Missing), Some(caller)) => Ok(caller),
            (Err(Unknown::Missing), None) => Err(Close::Unauthorized),
            (Err(Unknown::Wrong), _) => Err(Close::Forbidden),
        }
    }

    async fn subscribe(&mut self, id: String, asked: Asked, caller: Caller) -> Result<(), End> {
        if self.streams.contains_key(&id) {
            return Err(Close::DuplicateId(id).into());
        }
        let limit = self.session.limits.subscriptions;
        if self.streams.len() >= limit {
            let message = format!(
                "a connection carries at most {limit} subscriptions; complete some, or open another"
            );
            return self
                .refuse(&id, ApiError::new(Code::Unavailable, message))
                .await;
        }
        match asked.prepare(caller, &self.session.document_limits) {
            Ok(prepared) => {
                let answers = self.answers(prepared);
                let mut answers = answers.chain(stream::once(async { Answer::End })).boxed();
                // Begun now: whoever hears the answer to a later message may rely on this one being heard.
                let first = answers.next().now_or_never().flatten();
                self.streams.insert(id.clone(), answers);
                match first {
                    Some(answer) => self.answered(&id, answer).await,
                    None => Ok(()),
                }
            }
            Err(refusal) => self.refuse(&id, refusal).await,
        }
    }

    /// The answers to what is asked: shared where others ask the same.
    fn answers(&self, prepared: Prepared) -> BoxStream<'static, Answer> {
        let Prepared {
            request, shared, ..
        } = prepared;
        let execute = || (self.session.execute)(request);
        let followed = match shared {
            Some(key) => self.session.feeds.follow(key, execute),
            None => Followed::Own(execute()),
        };
        match followed {
            Followed::Shared(told) => told.map(Answer::Told).boxed(),
            Followed::Own(answers) => answers
                .map(|response| Answer::Next(Box::new(response)))
                .boxed(),
        }
    }

    async fn refuse(&mut self, id: &str, refusal: ApiError) -> Result<(), End> {
        let response = error::finish(error::refused(refusal));
        self.tell(&ToClient::Error {
            id,
            payload: &response.errors,
        })
        .await
    }

    async fn answered(&mut self, id: &str, answer: Answer) -> Result<(), End> {
        let response = match answer {
            Answer::Next(response) => response,
            Answer::Told(Told::Next(payload)) => return self.pass_on("next", id, &payload).await,
            Answer::Told(Told::Error(payload)) => {
                self.streams.remove(id);
                return self.pass_on("error", id, &payload).await;
            }
            Answer::End => {
                self.streams.remove(id);
                return self.tell(&ToClient::Complete { id }).await;
            }
        };
        let response = error::finish(*response);
        if error::is_request_error(&response) {
            // Nothing was executed, and an error is the last word of its id.
            self.streams.remove(id);
            return self
                .tell(&ToClient::Error {
                    id,
                    payload: &response.errors,
                })
                .await;
        }
        self.tell(&ToClient::Next {
            id,
            payload: &response,
        })
        .await
    }

    /// Sends a payload that is written already under the client's own id.
    async fn pass_on(&mut self, kind: &str, id: &str, payload: &str) -> Result<(), End> {
        let id = serde_json::Value::from(id);
        let text = format!(r#"{{"type":"{kind}","id":{id},"payload":{payload}}}"#);
        self.feed(Message::Text(Utf8Bytes::from(text))).await
    }

    /// Sends a message; the caller of [`Self::handle`] sees to it that it leaves.
    async fn tell(&mut self, message: &ToClient<'_>) -> Result<(), End> {
        match serde_json::to_string(message) {
            Ok(text) => self.feed(Message::Text(Utf8Bytes::from(text))).await,
            Err(failed) => {
                tracing::error!(error = %failed, "an answer could not be written");
                Err(End::Gone)
            }
        }
    }

    /// Puts a message behind those that are on their way.
    async fn feed(&mut self, message: Message) -> Result<(), End> {
        let fed = timeout(self.session.limits.send_timeout, self.socket.feed(message));
        written(fed.await)
    }

    /// Lets what is on its way leave.
    async fn flush(&mut self) -> Result<(), End> {
        written(timeout(self.session.limits.send_timeout, self.socket.flush()).await)
    }

    /// Says why, and waits a moment for the client to agree, so that it reads the reason before the
    /// connection is gone.
    async fn farewell(&mut self, close: &Close) {
        let agreed = timeout(FAREWELL, async {
            if self.socket.send(close.frame()).await.is_ok() {
                while let Some(Ok(message)) = self.socket.next().await {
                    if matches!(message, Message::Close(_)) {
                        break;
                    }
                }
            }
        });
        if agreed.await.is_err() {
            tracing::debug!("a WebSocket client did not agree to the closing in time");
        }
    }
}

/// What became of writing to the client in time.
fn written<E>(written: Result<Result<(), E>, Elapsed>) -> Result<(), End> {
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(Close::Unresponsive("Messages are not read").into()),
    }
}

#[cfg(test)]
mod tests;
