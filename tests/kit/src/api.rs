//! The public API as a client of it would write it.

use crate::{TOKEN, body_of, eventually};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A client of one server.
#[derive(Clone)]
pub struct Api {
    /// Where the server listens, without a path.
    pub url: String,
    client: reqwest::Client,
}

/// What a GraphQL request came to.
#[derive(Debug)]
pub struct Answer {
    /// The `data` of the answer.
    pub data: Value,
    /// Its `errors`; empty when there are none.
    pub errors: Vec<Value>,
}

impl Answer {
    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.errors
            .first()
            .and_then(|error| error["extensions"]["code"].as_str())
            .unwrap_or("(no error)")
    }
}

const DEPLOYMENT: &str = "id name status failureReason statusDetail desiredState url
    ports { port containerPort service node { name } }
    node { name } services { name status restarts }
    activeRevision { id number status sourceVersion epoch node { name } }
    latestRevision { id number status failureReason statusDetail sourceVersion epoch node { name } }";

impl Api {
    /// A client of the server at `url`.
    pub fn new(url: &str) -> Self {
        let client = crate::client(Duration::from_secs(20));
        Self {
            url: url.to_owned(),
            client,
        }
    }

    /// Waits until `/readyz` answers 200.
    pub async fn until_ready(&self) {
        let url = format!("{}/readyz", self.url);
        eventually("the API is ready", || async { body_of(&url).await }).await;
    }

    /// Sends a request and gives whatever came back.
    pub async fn try_ask(&self, query: &str, variables: Value) -> Result<Answer, reqwest::Error> {
        let body = json!({ "query": query, "variables": variables });
        let request = self
            .client
            .post(format!("{}/graphql", self.url))
            .bearer_auth(TOKEN)
            .json(&body);
        let mut answer: Value = request.send().await?.json().await?;
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        Ok(Answer {
            data: answer["data"].take(),
            errors,
        })
    }

    /// Sends a request that the server must answer.
    pub async fn ask(&self, query: &str, variables: Value) -> Answer {
        self.try_ask(query, variables).await.expect("an answer")
    }

    /// Sends a request that must succeed.
    pub async fn data(&self, query: &str, variables: Value) -> Value {
        let answer = self.ask(query, variables).await;
        assert!(answer.errors.is_empty(), "{query}: {:?}", answer.errors);
        answer.data
    }

    /// Creates a deployment; gives it as it is then.
    pub async fn create(&self, input: Value) -> Value {
        let query = format!(
            "mutation($input: CreateDeploymentInput!) {{ createDeployment(input: $input) {{ {DEPLOYMENT} }} }}"
        );
        self.data(&query, json!({ "input": input })).await["createDeployment"].take()
    }

    /// Creates a deployment from a Git URL that is not watched.
    pub async fn create_git(&self, name: &str, url: &str) -> Value {
        self.create(json!({ "name": name, "git": { "url": url, "pollSeconds": 0 } }))
            .await
    }

    /// Calls a mutation of the form `name(id: ID!): Deployment!`.
    pub async fn act(&self, mutation: &str, id: &str) -> Answer {
        let query = format!("mutation($id: ID!) {{ {mutation}(id: $id) {{ id }} }}");
        self.ask(&query, json!({ "id": id })).await
    }

    /// A deployment with everything that the tests look at.
    pub async fn deployment(&self, id: &str) -> Value {
        let query = format!("query($id: ID!) {{ deployment(id: $id) {{ {DEPLOYMENT} }} }}");
        self.data(&query, json!({ "id": id })).await["deployment"].take()
    }

    /// The same, when the server can say it: one whose database was just away answers UNAVAILABLE until
    /// it has let go of every dead connection.
    async fn deployment_if_known(&self, id: &str) -> Option<Value> {
        let query = format!("query($id: ID!) {{ deployment(id: $id) {{ {DEPLOYMENT} }} }}");
        let mut answer = self.ask(&query, json!({ "id": id })).await;
        let is_away = |error: &Value| error["extensions"]["code"] == "UNAVAILABLE";
        if !answer.errors.is_empty() && answer.errors.iter().all(is_away) {
            return None;
        }
        assert!(answer.errors.is_empty(), "{query}: {:?}", answer.errors);
        Some(answer.data["deployment"].take())
    }

    /// Waits until a deployment is as `condition` says.
    pub async fn until(&self, id: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let last = std::sync::Mutex::new(Value::Null);
        let found = eventually(what, || async {
            let deployment = self.deployment_if_known(id).await?;
            let right = condition(&deployment);
            *last.lock().expect("not poisoned") = deployment.clone();
            if !right && deployment["status"] == "FAILED" && !what.contains("FAILED") {
                panic!("waiting for {what}, but it failed: {deployment:#}");
            }
            right.then_some(deployment)
        });
        found.await
    }

    /// Waits until a deployment has this status.
    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, &format!("the deployment is {status}"), |deployment| {
            deployment["status"] == status
        })
        .await
    }

    /// Waits until the revision with this number is the newest and stands so; a running one also
    /// serves by then.
    pub async fn until_latest(&self, id: &str, number: i64, status: &str) -> Value {
        self.until(
            id,
            &format!("revision {number} is {status}"),
            |deployment| {
                let latest = &deployment["latestRevision"];
                let serves =
                    status != "RUNNING" || deployment["activeRevision"]["number"] == number;
                latest["number"] == number && latest["status"] == status && serves
            },
        )
        .await
    }

    /// The recorded steps of a revision.
    pub async fn events(&self, revision: &str) -> Vec<Value> {
        let query = "query($id: ID!) { revision(id: $id) { events { seq epoch status failureReason detail } } }";
        self.data(query, json!({ "id": revision })).await["revision"]["events"]
            .as_array()
            .cloned()
            .expect("events")
    }

    /// Every node that the server knows.
    pub async fn nodes(&self) -> Vec<Value> {
        self.data("{ nodes { id name status detail } }", json!({}))
            .await["nodes"]
            .as_array()
            .cloned()
            .expect("nodes")
    }

    /// Waits until a node has this status.
    pub async fn until_node(&self, name: &str, status: &str) -> Value {
        eventually(&format!("node {name} is {status}"), || async {
            self.nodes()
                .await
                .into_iter()
                .find(|node| node["name"] == name && node["status"] == status)
        })
        .await
    }

    /// Destroys every deployment and waits until they are gone, a page after the other.
    pub async fn destroy_all(&self) {
        loop {
            let page = self.page().await;
            if page.is_empty() {
                return;
            }
            for deployment in &page {
                if deployment["desiredState"] != "DESTROYED" {
                    let answer = self
                        .act_with_volumes(deployment["id"].as_str().expect("an id"))
                        .await;
                    assert!(answer.errors.is_empty(), "{answer:?}");
                }
            }
            eventually("every one of a page is destroyed", || async {
                let left = self.page().await;
                let is_left = |one: &Value| left.iter().any(|other| other["id"] == one["id"]);
                (!page.iter().any(is_left)).then_some(())
            })
            .await;
        }
    }

    async fn page(&self) -> Vec<Value> {
        let list = "{ deployments(first: 100) { nodes { id desiredState } } }";
        let page = self.data(list, json!({})).await;
        let page = page["deployments"]["nodes"].as_array();
        page.cloned().expect("a list")
    }

    async fn act_with_volumes(&self, id: &str) -> Answer {
        self.ask(
            "mutation($id: ID!) { destroyDeployment(id: $id, volumes: true) { id } }",
            json!({ "id": id }),
        )
        .await
    }

    /// Opens a subscription; every `next` is sent down the channel, and the channel closes on `complete`.
    pub async fn subscribe(
        &self,
        query: &str,
        variables: Value,
    ) -> tokio::sync::mpsc::UnboundedReceiver<Value> {
        let mut socket = self.socket(query, variables).await;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = socket.next().await {
                let Message::Text(text) = frame else { continue };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                match message["type"].as_str() {
                    Some("next") if sender.send(message["payload"].clone()).is_ok() => {}
                    Some("ping") => socket
                        .send(Message::text(r#"{"type":"pong"}"#))
                        .await
                        .expect("sent"),
                    Some("error") => panic!("{message}"),
                    _ => break,
                }
            }
        });
        receiver
    }

    /// Opens a subscription and waits until the server closes its connection; code and reason.
    pub async fn subscribe_until_closed(
        &self,
        query: &str,
        variables: Value,
    ) -> impl Future<Output = (u16, String)> + use<> {
        let mut socket = self.socket(query, variables).await;
        async move {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Close(Some(close)))) => {
                        return (close.code.into(), close.reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    ended => panic!("closed without a reason: {ended:?}"),
                }
            }
        }
    }

    /// A WebSocket with a subscription on it.
    async fn socket(&self, query: &str, variables: Value) -> Socket {
        let mut request = format!("{}/graphql", self.url.replacen("http", "ws", 1))
            .into_client_request()
            .expect("a request");
        request.headers_mut().insert(
            "sec-websocket-protocol",
            "graphql-transport-ws".parse().expect("a value"),
        );
        let (mut socket, _) = tokio_tungstenite::connect_async(request)
            .await
            .expect("a WebSocket");
        let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } });
        socket
            .send(Message::text(init.to_string()))
            .await
            .expect("sent");
        let ack: Value = loop {
            if let Message::Text(text) = socket.next().await.expect("open").expect("a frame") {
                break serde_json::from_str(&text).expect("JSON");
            }
        };
        assert_eq!(ack["type"], "connection_ack");
        let subscribe = json!({ "type": "subscribe", "id": "1", "payload": { "query": query, "variables": variables } });
        socket
            .send(Message::text(subscribe.to_string()))
            .await
            .expect("sent");
        socket
    }
}
