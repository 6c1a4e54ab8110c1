//! A subscriber that never reads what it is sent.

use crate::fleet::Fleet;
use crate::table::Fault;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use testkit::TOKEN;
use testkit::fixture::hello;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// The most that an orchestrator may hold, in KiB.
pub(crate) const MEMORY_LIMIT: u64 = 256 * 1024;

/// The most memory that a process had at any time, in KiB.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    kib.expect("a figure").parse().expect("a number")
}

/// Subscribes, and leaves it at that.
async fn subscribed(url: &str) -> Socket {
    let mut request = format!("{}/graphql", url.replacen("http", "ws", 1))
        .into_client_request()
        .expect("a request");
    let protocol = "graphql-transport-ws".parse().expect("a value");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .expect("a WebSocket");
    let token = json!({ "Authorization": format!("Bearer {TOKEN}") });
    let query = "subscription { deploymentStatus { seq status detail } }";
    for message in [
        json!({ "type": "connection_init", "payload": token }),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": query } }),
    ] {
        socket
            .send(Message::text(message.to_string()))
            .await
            .expect("sent");
    }
    socket
}

/// Everything that still comes, up to the end of the connection.
async fn last_words(mut socket: Socket) -> String {
    let mut last = String::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if !text.contains("\"next\"") => last.push_str(&text),
            Message::Close(frame) => last.push_str(&format!("{frame:?}")),
            _ => {}
        }
    }
    last
}

#[tokio::test]
async fn a_subscriber_that_never_reads_is_dropped() {
    let mut line = Fault::new("a subscriber never reads");
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    fleet.node("node", "").await;
    let repository = fleet.git.repository("app", &hello("one"));
    fleet.broker.tap("deployment", "tap").await;
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    fleet.api.until_latest(&id, 1, "RUNNING").await;
    let taken = fleet.broker.take_all("tap").await;
    fleet.broker.untap("tap").await;
    let running = taken
        .iter()
        .flat_map(|body| {
            let body: Value = serde_json::from_str(body).expect("JSON");
            body["items"].as_array().cloned().expect("items")
        })
        .find(|item| item["status"] == "RUNNING")
        .expect("the node said so");

    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(subscribed(&fleet.api.url).await);
    }
    let query = "subscription { deploymentStatus { seq status } }";
    let mut attentive = fleet.api.subscribe(query, json!({})).await;
    // A node whose application comes and goes, and has much to say of it: 6 000 steps of 8 KiB.
    let detail = "x".repeat(8 * 1024);
    let first = running["seq"].as_i64().expect("a number") + 1;
    let steps: Vec<Value> = (0..6000)
        .map(|step| {
            let mut report = running.clone();
            report["seq"] = json!(first + step);
            report["status"] = json!(if step % 2 == 0 { "DEGRADED" } else { "RUNNING" });
            report["detail"] = json!(detail);
            report["facts"] = json!({});
            report
        })
        .collect();
    for chunk in steps.chunks(200) {
        let body = json!({ "v": 1, "items": chunk }).to_string();
        fleet.broker.publish("deployment", &body).await;
    }
    let mut heard = 0;
    while heard < 6000 {
        let event = tokio::time::timeout(testkit::PATIENCE, attentive.recv()).await;
        let event = event
            .expect("in time")
            .expect("the others are not in its way");
        heard += u32::from(event["data"]["deploymentStatus"]["seq"].is_number());
    }
    line.is_over();
    // The server gives up on who does not take a message within ten seconds.
    for socket in silent {
        let pid = fleet.role("orchestrator").as_ref().expect("it runs").pid();
        testkit::eventually("the server has let it go", || async {
            let port = local_port(&socket);
            (!is_connected(pid, port)).then_some(())
        })
        .await;
        let said = last_words(socket).await;
        println!("a silent subscriber was told: {said:?}");
    }
    let pid = fleet.role("orchestrator").as_ref().expect("it runs").pid();
    let peak = peak_memory(pid);
    assert!(peak < MEMORY_LIMIT, "it held {peak} KiB");
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}

fn local_port(socket: &Socket) -> u16 {
    match socket.get_ref() {
        MaybeTlsStream::Plain(stream) => stream.local_addr().expect("an address").port(),
        _ => panic!("no TLS here"),
    }
}

/// Whether the server's end of this client's connection is still open.
fn is_connected(pid: u32, port: u16) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it runs");
    let remote = format!("0100007F:{port:04X}");
    // 01 is ESTABLISHED; a server that has closed is in another state.
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.nth(2)?, words.next()?))
        })
        .any(|(to, state)| to == remote && state == "01")
}
