//! A connection against a client made of channels, on a clock that the tests move.

use super::*;
use async_graphql::{ServerError, value};
use axum::extract::ws::CloseFrame;
use futures::channel::mpsc;
use serde_json::{Value, json};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

const TOKEN: &str = "0123456789abcdef";

/// The server's end of a connection.
struct Socket {
    received: mpsc::UnboundedReceiver<Result<Message, &'static str>>,
    sent: mpsc::Sender<Message>,
}

impl Stream for Socket {
    type Item = Result<Message, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.received.poll_next_unpin(cx)
    }
}

impl Sink<Message> for Socket {
    type Error = mpsc::SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sent.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.sent.start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sent).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sent).poll_close(cx)
    }
}

/// The other end.
struct Client {
    to_server: mpsc::UnboundedSender<Result<Message, &'static str>>,
    from_server: mpsc::Receiver<Message>,
    stop: CancellationToken,
    /// Holds one clone per stream of answers that is open.
    open: Arc<()>,
    server: JoinHandle<()>,
}

/// What the documents of these tests are answered with, by the name of their operation.
fn answers(open: Arc<()>, request: &Request) -> BoxStream<'static, Response> {
    let answer = || Response::new(value!({ "a": 1 }));
    let stream = match request.operation_name.as_deref() {
        Some("Two") => stream::iter([answer(), answer()]).boxed(),
        Some("Endless") => stream::repeat_with(answer).boxed(),
        Some("Refused") => stream::iter([Response::from_errors(vec![ServerError::new(
            "no such field",
            None,
        )])])
        .boxed(),
        _ => stream::pending().boxed(),
    };
    stream.inspect(move |_| drop(Arc::clone(&open))).boxed()
}

fn connect_as(caller: Option<Caller>) -> Client {
    let (to_server, received) = mpsc::unbounded();
    let (sent, from_server) = mpsc::channel(0);
    let (stop, open) = (CancellationToken::new(), Arc::new(()));
    let counted = Arc::clone(&open);
    let session = Session {
        caller,
        token: Arc::new(AdminToken::new(&TOKEN.into()).unwrap()),
        document_limits: Arc::default(),
        limits: Arc::default(),
        feeds: Feeds::default(),
        execute: Box::new(move |request| answers(Arc::clone(&counted), &request)),
        stop: stop.clone(),
    };
    let server = tokio::spawn(Connection::new(Socket { received, sent }, session).run());
    Client {
        to_server,
        from_server,
        stop,
        open,
        server,
    }
}

impl Client {
    fn send(&self, message: &Value) {
        self.send_raw(Message::Text(message.to_string().into()));
    }

    fn send_raw(&self, message: Message) {
        self.to_server.unbounded_send(Ok(message)).unwrap();
    }

    fn subscribe(&self, id: &str, operation: &str) {
        let payload = json!({ "query": format!("subscription {operation} {{ a }}"), "operationName": operation });
        self.send(&json!({ "type": "subscribe", "id": id, "payload": payload }));
    }

    async fn init(&mut self) {
        self.send(&json!({ "type": "connection_init", "payload": { "token": TOKEN } }));
        assert_eq!(self.next().await, json!({ "type": "connection_ack" }));
    }

    /// The next message that is not a ping of the transport.
    async fn next_raw(&mut self) -> Message {
        loop {
            match self.from_server.next().await {
                Some(Message::Ping(_)) => {}
                Some(message) => return message,
                None => panic!("the server is gone without a word"),
            }
        }
    }

    async fn next(&mut self) -> Value {
        match self.next_raw().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The code of the closing, which is the next thing that is heard.
    async fn closed(mut self) -> u16 {
        let Message::Close(Some(CloseFrame { code, .. })) = self.next_raw().await else {
            panic!("not closed")
        };
        self.send_raw(Message::Close(None));
        self.server.await.unwrap();
        code
    }
}

fn connect() -> Client {
    connect_as(None)
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_after_ten_seconds() {
    let begun = Instant::now();
    assert_eq!(connect().closed().await, 4408);
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_init_an_hour_late_is_too_late() {
    let client = connect();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // The farewell was not read either; the server did not wait for it.
    assert!(client.server.is_finished());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_without_a_token() {
    let client = connect();
    client.subscribe("1", "Two");
    assert_eq!(client.closed().await, 4401);
    for (payload, code) in [
        (json!(null), 4401),
        (json!({}), 4401),
        (json!({ "token": "" }), 4403),
        (json!({ "token": "0123456789abcdeF" }), 4403),
        (json!({ "Authorization": TOKEN }), 4403),
    ] {
        let client = connect();
        client.send(&json!({ "type": "connection_init", "payload": payload }));
        assert_eq!(client.closed().await, code, "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_upgrade_may_have_brought_the_token() {
    let caller = AdminToken::new(&TOKEN.into())
        .unwrap()
        .check(TOKEN.as_bytes())
        .unwrap();
    let mut client = connect_as(Some(caller));
    client.send(&json!({ "type": "connection_init" }));
    assert_eq!(client.next().await["type"], "connection_ack");
    let client = connect_as(Some(caller));
    client.send(&json!({ "type": "connection_init", "payload": { "token": "wrong" } }));
    assert_eq!(client.closed().await, 4403);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_of_the_protocol_closes_with_its_code() {
    let mut client = connect();
    client.init().await;
    client.send(&json!({ "type": "connection_init", "payload": { "token": TOKEN } }));
    assert_eq!(client.closed().await, 4429);
    for message in [
        Message::Text("{".into()),
        Message::Text(r#"{"type":"start"}"#.into()),
        Message::Binary(vec![0].into()),
    ] {
        let client = connect();
        client.send_raw(message);
        assert_eq!(client.closed().await, 4400);
    }
    let client = connect();
    client
        .to_server
        .unbounded_send(Err("Space limit exceeded: Message too long: 70000 > 65536"))
        .unwrap();
    assert_eq!(client.closed().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_closes() {
    let mut client = connect();
    client.init().await;
    client.subscribe("1", "Silent");
    client.subscribe("1", "Silent");
    assert_eq!(client.closed().await, 4409);
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_order_and_then_complete() {
    let mut client = connect();
    client.init().await;
    for _ in 0..2 {
        // The same id again, once it is free.
        client.subscribe("1", "Two");
        let next = json!({ "type": "next", "id": "1", "payload": { "data": { "a": 1 } } });
        assert_eq!(client.next().await, next);
        assert_eq!(client.next().await, next);
        assert_eq!(
            client.next().await,
            json!({ "type": "complete", "id": "1" })
        );
    }
    client.send(&json!({ "type": "ping" }));
    assert_eq!(client.next().await, json!({ "type": "pong" }));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_executed_ends_with_an_error() {
    let mut client = connect();
    client.init().await;
    client.subscribe("1", "Refused");
    let refused = client.next().await;
    assert_eq!(
        (
            &refused["type"],
            &refused["payload"][0]["extensions"]["code"]
        ),
        (&json!("error"), &json!("INVALID_INPUT"))
    );
    let bomb = format!("subscription {{ {} }}", "...f ".repeat(1_000));
    client.send(&json!({ "type": "subscribe", "id": "2", "payload": { "query": bomb } }));
    let refused = client.next().await;
    assert_eq!(
        (&refused["type"], &refused["id"]),
        (&json!("error"), &json!("2"))
    );
    // Neither is completed as well, and the connection goes on.
    client.send(&json!({ "type": "ping" }));
    assert_eq!(client.next().await["type"], "pong");
}

#[tokio::test(start_paused = true)]
async fn what_is_completed_is_dropped() {
    let mut client = connect();
    client.init().await;
    let before = Arc::strong_count(&client.open);
    client.subscribe("1", "Silent");
    client.subscribe("2", "Silent");
    client.send(&json!({ "type": "ping" }));
    client.next().await;
    assert_eq!(Arc::strong_count(&client.open), before + 2);
    client.send(&json!({ "type": "complete", "id": "1" }));
    client.send(&json!({ "type": "complete", "id": "unknown" }));
    client.send(&json!({ "type": "ping" }));
    client.next().await;
    assert_eq!(Arc::strong_count(&client.open), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_a_hundred_subscriptions() {
    let mut client = connect();
    client.init().await;
    for id in 0..101 {
        client.subscribe(&id.to_string(), "Silent");
    }
    let refused = client.next().await;
    assert_eq!(
        (&refused["id"], &refused["payload"][0]["extensions"]["code"]),
        (&json!("100"), &json!("UNAVAILABLE"))
    );
    client.send(&json!({ "type": "complete", "id": "7" }));
    client.subscribe("again", "Two");
    assert_eq!(client.next().await["id"], "again");
}

#[tokio::test(start_paused = true)]
async fn who_never_reads_is_closed_and_costs_nothing_more() {
    let mut client = connect();
    client.init().await;
    client.subscribe("1", "Endless");
    let begun = Instant::now();
    (&mut client.server).await.unwrap();
    assert!(
        begun.elapsed() <= Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(Arc::strong_count(&client.open), 1, "its streams are gone");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_pings_is_closed() {
    let mut client = connect();
    client.init().await;
    // Whoever answers stays.
    for _ in 0..10 {
        assert!(matches!(
            client.from_server.next().await,
            Some(Message::Ping(_))
        ));
        client.send_raw(Message::Pong(bytes::Bytes::new()));
    }
    let begun = Instant::now();
    assert_eq!(client.closed().await, 1008);
    assert_eq!(begun.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_says_so() {
    let mut client = connect();
    client.init().await;
    client.subscribe("1", "Silent");
    client.stop.cancel();
    assert_eq!(client.closed().await, 1001);
}
