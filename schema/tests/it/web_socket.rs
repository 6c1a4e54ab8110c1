//! `graphql-transport-ws` on a real socket; the protocol's details are tested beside its code.

use crate::server::{Server, TOKEN, code};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Connects with these headers beside the subprotocol.
async fn connect_with(server: &Server, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    let mut request = format!("ws://{}/graphql", server.address)
        .into_client_request()
        .unwrap();
    request.headers_mut().insert(
        "sec-websocket-protocol",
        HeaderValue::from_static("graphql-transport-ws"),
    );
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            assert_eq!(
                response.headers()["sec-websocket-protocol"],
                "graphql-transport-ws"
            );
            Ok(Client { socket })
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

impl Client {
    /// A connection that is signed in.
    async fn signed_in(server: &Server) -> Self {
        let mut client = connect_with(server, &[]).await.unwrap();
        client.send(&json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } })).await;
        assert_eq!(client.next().await, json!({ "type": "connection_ack" }));
        client
    }

    async fn send(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(&json!({ "type": "subscribe", "id": id, "payload": { "query": query } }))
            .await;
    }

    /// Whatever was sent before is known to the server once this is answered.
    async fn settle(&mut self) {
        self.send(&json!({ "type": "ping" })).await;
        assert_eq!(self.next().await, json!({ "type": "pong" }));
    }

    async fn next(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn closed(&mut self) -> u16 {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn who_may_connect() {
    let server = Server::start().await;
    let own = format!("http://{}", server.address);
    let bearer = format!("Bearer {TOKEN}");
    assert!(connect_with(&server, &[]).await.is_ok());
    assert!(connect_with(&server, &[("origin", &own)]).await.is_ok());
    assert_eq!(
        connect_with(&server, &[("origin", "http://evil.example")])
            .await
            .err(),
        Some(403)
    );
    assert_eq!(
        connect_with(&server, &[("origin", "null")]).await.err(),
        Some(403)
    );
    assert_eq!(
        connect_with(&server, &[("authorization", "Bearer wrong")])
            .await
            .err(),
        Some(401)
    );
    let other = HeaderValue::from_static("graphql-ws");
    assert_eq!(
        connect_with(
            &server,
            &[("sec-websocket-protocol", other.to_str().unwrap())]
        )
        .await
        .err(),
        Some(400)
    );
    let mut client = connect_with(&server, &[("authorization", &bearer)])
        .await
        .unwrap();
    client.send(&json!({ "type": "connection_init" })).await;
    assert_eq!(client.next().await["type"], "connection_ack");
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let server = Server::start().await;
    for (message, closing) in [
        (json!({ "type": "connection_init" }), 4401),
        (
            json!({ "type": "connection_init", "payload": { "token": "wrong" } }),
            4403,
        ),
        (
            json!({ "type": "subscribe", "id": "1", "payload": { "query": "subscription{nodeStatus{id}}" } }),
            4401,
        ),
        (json!({ "type": "hello" }), 4400),
    ] {
        let mut client = connect_with(&server, &[]).await.unwrap();
        client.send(&message).await;
        assert_eq!(client.closed().await, closing, "{message}");
    }
}

#[tokio::test]
async fn a_large_message_is_not_read() {
    let server = Server::start().await;
    let mut client = Client::signed_in(&server).await;
    client
        .socket
        .send(Message::text("x".repeat(100 * 1024)))
        .await
        .unwrap();
    assert_eq!(client.closed().await, 1009);
}

#[tokio::test]
async fn queries_and_mistakes_are_answered_too() {
    let server = Server::start().await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("q", "{__typename}").await;
    assert_eq!(
        client.next().await["payload"],
        json!({ "data": { "__typename": "Query" } })
    );
    assert_eq!(client.next().await["type"], "complete");
    client.subscribe("bad", "subscription{nothing}").await;
    let refused = client.next().await;
    assert_eq!(
        (
            &refused["type"],
            &refused["payload"][0]["extensions"]["code"]
        ),
        (&json!("error"), &json!("INVALID_INPUT"))
    );
    let unknown = uuid::Uuid::now_v7();
    for field in [
        format!("deploymentStatus(id:\"{unknown}\"){{seq}}"),
        format!("buildLog(revisionId:\"{unknown}\"){{seq}}"),
        format!("serviceLog(deploymentId:\"{unknown}\"){{seq}}"),
        "deploymentStatus(id:\"x\"){seq}".to_owned(),
    ] {
        client
            .subscribe("none", &format!("subscription{{{field}}}"))
            .await;
        let answer = client.next().await;
        assert_eq!(code(&answer["payload"]), "NOT_FOUND", "{field}: {answer}");
        assert_eq!(client.next().await["type"], "complete");
    }
    client
        .subscribe(
            "tail",
            &format!("subscription{{serviceLog(deploymentId:\"{unknown}\",tail:-1){{seq}}}}"),
        )
        .await;
    assert_eq!(code(&client.next().await["payload"]), "INVALID_INPUT");
}

#[tokio::test]
async fn a_step_is_told_to_who_asked_before_and_after() {
    let server = Server::start().await;
    let mut client = Client::signed_in(&server).await;
    client
        .subscribe(
            "all",
            "subscription{deploymentStatus{deploymentId revision seq status}}",
        )
        .await;
    client.settle().await;
    let id = server.create("followed").await;
    let first = json!({ "deploymentId": id, "revision": 1, "seq": 1, "status": "REQUESTED" });
    let told = client.next().await;
    assert_eq!(
        (&told["id"], &told["payload"]["data"]["deploymentStatus"]),
        (&json!("all"), &first)
    );
    // Whoever comes later is told from the first step on, once.
    client
        .send(&json!({ "type": "complete", "id": "all" }))
        .await;
    client
        .subscribe(
            "one",
            &format!(
                "subscription{{deploymentStatus(id:\"{id}\"){{deploymentId revision seq status}}}}"
            ),
        )
        .await;
    assert_eq!(
        client.next().await["payload"]["data"]["deploymentStatus"],
        first
    );
    // Destroying what was never placed is one more step.
    server
        .ask(&format!("mutation{{destroyDeployment(id:\"{id}\"){{id}}}}"))
        .await;
    let last = client.next().await;
    assert_eq!(
        last["payload"]["data"]["deploymentStatus"]["seq"], 2,
        "{last}"
    );
    assert_eq!(
        last["payload"]["data"]["deploymentStatus"]["status"], "DESTROYED",
        "{last}"
    );
}

#[tokio::test]
async fn who_connects_to_the_next_server_has_missed_nothing() {
    let server = Server::start().await;
    let id = server.create("followed").await;
    let query = format!("subscription{{deploymentStatus(id:\"{id}\"){{seq status}}}}");
    let mut client = Client::signed_in(&server).await;
    client.subscribe("1", &query).await;
    let first = client.next().await["payload"]["data"]["deploymentStatus"].clone();
    assert_eq!(first, json!({ "seq": 1, "status": "REQUESTED" }));
    // A request whose answer nobody has read yet is answered, whenever the end is asked for.
    let destroying = format!("mutation{{destroyDeployment(id:\"{id}\"){{status}}}}");
    let answer = server
        .post(&json!({ "query": destroying }))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    let (server, ()) = tokio::join!(server.restarted(), async {
        let text = answer.text().await.unwrap();
        assert!(text.contains("DESTROYED"), "{text}");
        while let Some(Ok(message)) = client.socket.next().await {
            if let Message::Close(Some(frame)) = message {
                assert_eq!(u16::from(frame.code), 1001);
                assert!(frame.reason.contains("connect again"), "{}", frame.reason);
            }
        }
    });
    let mut client = Client::signed_in(&server).await;
    client.subscribe("2", &query).await;
    for (seq, status) in [(1, "REQUESTED"), (2, "DESTROYED")] {
        let told = client.next().await["payload"]["data"]["deploymentStatus"].clone();
        assert_eq!(told, json!({ "seq": seq, "status": status }));
    }
}

#[tokio::test]
async fn a_stopping_server_says_goodbye() {
    let mut server = Server::start().await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("1", "subscription{nodeStatus{id}}").await;
    client.settle().await;
    server.stop.cancel();
    assert_eq!(client.closed().await, 1001);
    drop(client);
    while server.services.join_next().await.is_some() {}
}
