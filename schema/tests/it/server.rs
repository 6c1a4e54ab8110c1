//! A server to test, and what a client does with it.

use orchestrator::{Orchestrator, Service, Settings};
use reqwest::{Client, RequestBuilder, Response};
use schema::{Metrics, ServeSettings, serve};
use serde_json::{Value, json};
use shared::bus::local::LocalBus;
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "a-token-for-tests-0123456789abcdef";

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) stop: CancellationToken,
    pub(crate) services: JoinSet<()>,
    _data: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Metrics::detached()).await
    }

    pub(crate) async fn start_with(metrics: Metrics) -> Self {
        let (mut server, service) = Self::without_loops(LocalBus::new(), metrics).await;
        server
            .services
            .spawn(async { service.run().await.unwrap() });
        server
    }

    /// A server whose engine answers but does nothing by itself.
    pub(crate) async fn without_loops(bus: LocalBus, metrics: Metrics) -> (Self, Service) {
        let data = tempfile::tempdir().unwrap();
        Self::at(([127, 0, 0, 1], 0).into(), data, bus, metrics).await
    }

    /// The next process on the same database and port, once this one has ended.
    pub(crate) async fn restarted(mut self) -> Self {
        self.stop.cancel();
        while self.services.join_next().await.is_some() {}
        let (bus, metrics) = (LocalBus::new(), Metrics::detached());
        let (mut server, service) = Self::at(self.address, self._data, bus, metrics).await;
        server
            .services
            .spawn(async { service.run().await.unwrap() });
        server
    }

    async fn at(
        listen: SocketAddr,
        data: TempDir,
        bus: LocalBus,
        metrics: Metrics,
    ) -> (Self, Service) {
        let stop = CancellationToken::new();
        let (orchestrator, service) = engine(&data, bus, &stop).await;
        let settings = ServeSettings {
            listen,
            admin_token: TOKEN.into(),
            metrics,
        };
        let server = serve(orchestrator, settings, stop.clone()).await.unwrap();
        let address = server.local_addr();
        let mut services = JoinSet::new();
        services.spawn(server.run());
        (
            Self {
                address,
                client: testkit::client(testkit::PATIENCE),
                stop,
                services,
                _data: data,
            },
            service,
        )
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with a body of JSON, without a token.
    pub(crate) fn post(&self, body: &Value) -> RequestBuilder {
        self.client
            .post(self.url("/graphql"))
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// What is answered to the administrator.
    pub(crate) async fn ask_with(&self, query: &str, variables: Value) -> Value {
        let asked = self
            .post(&json!({ "query": query, "variables": variables }))
            .bearer_auth(TOKEN)
            .send();
        body(asked.await.unwrap()).await
    }

    /// What is answered to the administrator, without variables.
    pub(crate) async fn ask(&self, query: &str) -> Value {
        self.ask_with(query, json!({})).await
    }

    /// The id of a new deployment with this name.
    pub(crate) async fn create(&self, name: &str) -> String {
        let input = json!({ "name": name, "git": { "url": "https://git.example/app.git" } });
        let created = self
            .ask_with(
                "mutation($i: CreateDeploymentInput!){createDeployment(input:$i){id}}",
                json!({ "i": input }),
            )
            .await;
        created["data"]["createDeployment"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{created}"))
            .to_owned()
    }
}

/// An engine on a database of its own.
pub(crate) async fn engine(
    data: &TempDir,
    bus: LocalBus,
    stop: &CancellationToken,
) -> (Orchestrator, Service) {
    let database = format!(
        "sqlite://{}?mode=rwc",
        data.path().join("longshore.db").display()
    );
    Orchestrator::start(Settings::new(database.into()), Arc::new(bus), stop.clone())
        .await
        .unwrap()
}

/// An answer's body, which is JSON.
pub(crate) async fn body(response: Response) -> Value {
    let bytes = response.bytes().await.unwrap();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

/// The code of an answer's first error.
pub(crate) fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or("(none)")
}
