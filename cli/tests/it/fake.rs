//! A server that plays a script: enough of the API for one deployment.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// The token that it takes.
pub(crate) const TOKEN: &str = "a-token-for-tests";

const AT: &str = "2026-01-01T00:00:00Z";

/// What happens on one connection, once both subscriptions are there.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A step, told to subscribers.
    Step(&'static str),
    /// A step that nobody is told of, as if it came while the connection was away.
    Missed(&'static str),
    /// A line of the build log.
    Line(&'static str),
    /// The build log ends.
    LogEnd,
    /// The connection breaks.
    Break,
    /// The server stops and says so.
    GoAway,
}

/// The server's script and what has happened so far.
#[derive(Default)]
pub(crate) struct Script {
    /// One list a connection; a connection without one stays silent.
    pub(crate) connections: VecDeque<Vec<Act>>,
    /// The revision that serves at the end: its id and status.
    pub(crate) active: Option<(&'static str, &'static str)>,
    /// Whether the deployment exists already, and from where.
    pub(crate) exists: Option<&'static str>,
    /// Every document that was sent, in order.
    pub(crate) asked: Vec<String>,
    pub(crate) steps: Vec<Value>,
    pub(crate) lines: Vec<Value>,
}

/// A running server.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Fake {
    pub(crate) async fn start(script: Script) -> Self {
        let script = Arc::new(Mutex::new(script));
        let router = Router::new()
            .route("/graphql", get(socket).post(request))
            .with_state(Arc::clone(&script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script }
    }
}

type Shared = Arc<Mutex<Script>>;

fn revision(id: &str, number: u32, status: &str) -> Value {
    json!({ "id": id, "number": number, "status": status, "createdAt": AT })
}

fn deployment(script: &Script) -> Value {
    let latest = script
        .steps
        .last()
        .map_or("REQUESTED", |step| step["status"].as_str().unwrap());
    json!({
        "id": "d-1", "name": "app", "status": latest, "desiredState": "RUNNING", "url": "http://127.0.0.1:3042",
        "source": { "__typename": "GitSource", "url": script.exists.unwrap_or("https://git.example/app.git"), "pollSeconds": 60 },
        "labels": [], "ports": [], "services": [], "createdAt": AT, "updatedAt": AT,
        "activeRevision": script.active.map(|(id, status)| revision(id, 1, status)),
        "latestRevision": revision("r-2", 2, latest),
    })
}

fn step(script: &mut Script, status: &str) -> Value {
    let seq = script.steps.len() + 1;
    let reason = (status == "FAILED").then_some("BUILD_FAILED");
    let step = json!({
        "revisionId": "r-2", "seq": seq, "status": status, "failureReason": reason, "detail": reason.map(|_| "it \u{1b}[31mbroke"), "at": AT,
    });
    script.steps.push(step.clone());
    step
}

async fn request(State(script): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let expected = format!("Bearer {TOKEN}");
    if headers
        .get("authorization")
        .is_none_or(|value| value.as_bytes() != expected.as_bytes())
    {
        let error = json!({ "errors": [{ "message": "not signed in", "extensions": { "code": "UNAUTHENTICATED" } }] });
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let query = body["query"].as_str().unwrap();
    let mut script = script.lock().unwrap();
    script.asked.push(query.to_owned());
    let absent = query.contains("deployment(name:") && script.exists.is_none();
    let answer = if absent {
        json!({ "data": null, "errors": [{ "message": "there is no such deployment", "extensions": { "code": "NOT_FOUND" } }] })
    } else if query.contains("revision(id:") {
        json!({ "data": { "revision": { "events": script.steps } } })
    } else if query.contains("deployments(") {
        let page = json!({ "nodes": [deployment(&script)], "pageInfo": { "hasNextPage": false, "endCursor": null } });
        json!({ "data": { "deployments": page } })
    } else {
        json!({ "data": { "deployment": deployment(&script) } })
    };
    answer.to_string().into_response()
}

async fn socket(State(script): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols(["graphql-transport-ws"])
        .on_upgrade(|socket| async move {
            // A client that goes away ends its connection, nothing else.
            let _ = play(socket, script).await;
        })
}

async fn play(mut socket: WebSocket, script: Shared) -> Result<(), axum::Error> {
    let (mut statuses, mut log) = (None, None);
    while statuses.is_none() || log.is_none() {
        let Some(Ok(Message::Text(text))) = socket.recv().await else {
            return Ok(());
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "connection_init" {
            assert_eq!(
                message["payload"]["Authorization"],
                format!("Bearer {TOKEN}")
            );
            send(&mut socket, json!({ "type": "connection_ack" })).await?;
            continue;
        }
        let id = message["id"].as_str().map(str::to_owned);
        if message["payload"]["query"]
            .as_str()
            .unwrap()
            .contains("deploymentStatus")
        {
            statuses = id
        } else {
            log = id
        }
    }
    let acts = script
        .lock()
        .unwrap()
        .connections
        .pop_front()
        .unwrap_or_default();
    // A log is told from its first line on each connection.
    let before = script.lock().unwrap().lines.clone();
    for line in before {
        send(
            &mut socket,
            json!({ "type": "next", "id": log, "payload": { "data": { "buildLog": line } } }),
        )
        .await?;
    }
    for act in acts {
        match act {
            Act::Step(status) => {
                let step = step(&mut script.lock().unwrap(), status);
                send(&mut socket, json!({ "type": "next", "id": statuses, "payload": { "data": { "deploymentStatus": step } } })).await?;
            }
            Act::Missed(status) => {
                step(&mut script.lock().unwrap(), status);
            }
            Act::Line(text) => {
                let line = {
                    let mut script = script.lock().unwrap();
                    let line = json!({ "seq": script.lines.len() + 1, "at": AT, "stream": "STDOUT", "service": null, "text": text });
                    script.lines.push(line.clone());
                    line
                };
                send(&mut socket, json!({ "type": "next", "id": log, "payload": { "data": { "buildLog": line } } })).await?;
            }
            Act::LogEnd => send(&mut socket, json!({ "type": "complete", "id": log })).await?,
            Act::Break => return Ok(()),
            Act::GoAway => {
                let reason = "The server is stopping: connect again".into();
                let frame = CloseFrame { code: 1001, reason };
                return socket.send(Message::Close(Some(frame))).await;
            }
        }
    }
    // Until the client goes away.
    while let Some(Ok(_)) = socket.recv().await {}
    Ok(())
}

async fn send(socket: &mut WebSocket, message: Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(message.to_string().into())).await
}
