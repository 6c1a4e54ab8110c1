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
    admin: String,
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
            admin,
            name,
        }
    }

    /// `host:port` of the server.
    pub fn address(&self) -> String {
        let url = url::Url::parse(&self.admin).expect("a URL");
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
        psql(
            &self.admin,
            &format!("drop database if exists {} with (force)", self.name),
        );
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

    /// The names and types of the queues that exist.
    pub async fn queues(&self) -> Vec<(String, String)> {
        let queues = self
            .call(
                reqwest::Method::GET,
                &format!("queues/{}", self.vhost),
                None,
            )
            .await;
        let text =
            |queue: &serde_json::Value, key: &str| queue[key].as_str().unwrap_or("").to_owned();
        queues
            .as_array()
            .expect("a list")
            .iter()
            .map(|queue| (text(queue, "name"), text(queue, "type")))
            .collect()
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
