//! The Postgres and RabbitMQ that `make test` started: each test takes a database and a virtual
//! host of its own.

use serde_json::json;

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run these tests by `make test`, which starts what they need")
    })
}

/// A database of this test's own, dropped with it.
pub struct Database {
    /// With user and password.
    pub url: String,
    // Where to drop it; none when its whole server goes with the test.
    admin: Option<String>,
    name: String,
}

impl Database {
    /// A new, empty database.
    pub fn create() -> Self {
        let admin = required("LONGSHORE_TEST_DATABASE_URL");
        let name = format!("e2e_{}", uuid::Uuid::new_v4().simple());
        psql(&admin, &format!("create database {name}"));
        let mut url = url::Url::parse(&admin).expect("a URL");
        url.set_path(&name);
        Self {
            url: url.to_string(),
            admin: Some(admin),
            name,
        }
    }

    /// The database at this URL, on a server that goes with the test.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            admin: None,
            name: String::new(),
        }
    }

    /// What a query gives, one JSON value: `select json_build_object(…)`.
    ///
    /// # Errors
    /// What psql said, when the server does not answer.
    pub fn json(&self, query: &str) -> Result<serde_json::Value, String> {
        let output = std::process::Command::new("psql")
            .args(["--quiet", "--no-psqlrc", "--tuples-only", "--no-align"])
            .args(["--dbname", &self.url, "--command", query])
            .output()
            .expect("psql runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// `host:port` of the server.
    pub fn address(&self) -> String {
        let url = url::Url::parse(&self.url).expect("a URL");
        format!(
            "{}:{}",
            url.host_str().expect("a host"),
            url.port().unwrap_or(5432)
        )
    }

    /// The database's URL by another address.
    pub fn url_by(&self, address: std::net::SocketAddr) -> String {
        by_address(&self.url, address)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(admin) = &self.admin {
            psql(
                admin,
                &format!("drop database if exists {} with (force)", self.name),
            );
        }
    }
}

fn psql(url: &str, statement: &str) {
    let status = std::process::Command::new("psql")
        .args([
            "--quiet",
            "--no-psqlrc",
            "--dbname",
            url,
            "--command",
            statement,
        ])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("psql runs");
    assert!(status.success(), "psql: {statement}");
}

/// A virtual host of this test's own, deleted with it.
pub struct Broker {
    /// With user and password.
    pub url: String,
    management: url::Url,
    vhost: String,
    // Not deleted, when its whole broker goes with the test.
    is_kept: bool,
}

/// How full a queue is.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// `quorum` or `classic`.
    pub kind: String,
    /// Messages that wait or are under way; none before the broker has counted.
    pub messages: Option<u64>,
}

impl Broker {
    /// A new, empty virtual host that the test's user may do everything in.
    pub async fn create() -> Self {
        let base = url::Url::parse(&required("LONGSHORE_TEST_AMQP_URL")).expect("a URL");
        let management =
            url::Url::parse(&required("LONGSHORE_TEST_AMQP_MANAGEMENT")).expect("a URL");
        let vhost = format!("e2e-{}", uuid::Uuid::new_v4().simple());
        let broker = Self {
            url: {
                let mut url = base.clone();
                url.set_path(&vhost);
                url.to_string()
            },
            management,
            vhost,
            is_kept: false,
        };
        broker
            .call(
                reqwest::Method::PUT,
                &format!("vhosts/{}", broker.vhost),
                None,
            )
            .await;
        let user = base.username().to_owned();
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        broker
            .call(
                reqwest::Method::PUT,
                &format!("permissions/{}/{user}", broker.vhost),
                Some(all),
            )
            .await;
        broker
    }

    /// `host:port` of the broker.
    pub fn address(&self) -> String {
        let url = url::Url::parse(&self.url).expect("a URL");
        format!(
            "{}:{}",
            url.host_str().expect("a host"),
            url.port().unwrap_or(5672)
        )
    }

    /// The broker's URL by another address.
    pub fn url_by(&self, address: std::net::SocketAddr) -> String {
        by_address(&self.url, address)
    }

    /// The virtual host of `url`, on a broker that goes with the test.
    pub fn at(url: &str, management: &str) -> Self {
        let vhost = url::Url::parse(url).expect("a URL");
        Self {
            url: url.to_owned(),
            management: url::Url::parse(management).expect("a URL"),
            vhost: vhost.path().trim_start_matches('/').to_owned(),
            is_kept: true,
        }
    }

    /// The queues that exist.
    pub async fn queues(&self) -> Vec<Queue> {
        let queues = self
            .call(
                reqwest::Method::GET,
                // Totals without statistics: those are collected every five seconds only.
                &format!(
                    "queues/{}?disable_stats=true&enable_queue_totals=true",
                    self.vhost
                ),
                None,
            )
            .await;
        let text =
            |queue: &serde_json::Value, key: &str| queue[key].as_str().unwrap_or("").to_owned();
        queues
            .as_array()
            .expect("a list")
            .iter()
            .map(|queue| Queue {
                name: text(queue, "name"),
                kind: text(queue, "type"),
                messages: queue["messages"].as_u64(),
            })
            .collect()
    }

    /// From now on `queue` gets a copy of whatever is published to an exchange.
    pub async fn tap(&self, exchange: &str, queue: &str) {
        let place = format!("queues/{}/{queue}", self.vhost);
        let durable = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
        self.call(reqwest::Method::PUT, &place, Some(durable)).await;
        let binding = format!("bindings/{}/e/{exchange}/q/{queue}", self.vhost);
        self.call(
            reqwest::Method::POST,
            &binding,
            Some(json!({"routing_key": ""})),
        )
        .await;
    }

    /// Takes every message out of a queue that a test made by [`Broker::tap`]; bodies are text.
    pub async fn take_all(&self, queue: &str) -> Vec<String> {
        let place = format!("queues/{}/{queue}/get", self.vhost);
        let wanted = json!({"count": 10_000, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let messages = self.call(reqwest::Method::POST, &place, Some(wanted)).await;
        let bodies = messages.as_array().expect("a list").iter();
        bodies
            .map(|message| message["payload"].as_str().expect("text").to_owned())
            .collect()
    }

    /// Throws away what waits in a queue.
    pub async fn purge(&self, queue: &str) {
        let place = format!("queues/{}/{queue}/contents", self.vhost);
        self.call(reqwest::Method::DELETE, &place, None).await;
    }

    /// Removes a queue that a test made by [`Broker::tap`].
    pub async fn untap(&self, queue: &str) {
        let place = format!("queues/{}/{queue}", self.vhost);
        self.call(reqwest::Method::DELETE, &place, None).await;
    }

    /// Publishes a body to an exchange, as anybody with an account could.
    pub async fn publish(&self, exchange: &str, body: &str) {
        let place = format!("exchanges/{}/{exchange}/publish", self.vhost);
        let message = json!({
            "properties": {"delivery_mode": 2}, "routing_key": "",
            "payload": body, "payload_encoding": "string",
        });
        let answer = self
            .call(reqwest::Method::POST, &place, Some(message))
            .await;
        assert_eq!(answer["routed"], true, "{answer}");
    }

    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> serde_json::Value {
        let url = format!(
            "{}/api/{path}",
            self.management.as_str().trim_end_matches('/')
        );
        let mut request = crate::client(std::time::Duration::from_secs(20)).request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .expect("the broker's management answers");
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap_or(serde_json::Value::Null)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // No runtime to await in here.
        let url = format!(
            "{}/api/vhosts/{}",
            self.management.as_str().trim_end_matches('/'),
            self.vhost
        );
        let _ = std::process::Command::new("curl")
            .args(["--silent", "--request", "DELETE", &url])
            .status();
    }
}

fn by_address(url: &str, address: std::net::SocketAddr) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_host(Some(&address.ip().to_string()))
        .expect("a host");
    url.set_port(Some(address.port())).expect("a port");
    url.to_string()
}
