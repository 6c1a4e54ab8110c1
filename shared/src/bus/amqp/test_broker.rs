//! A virtual host of its own on a real RabbitMQ, for one test: for this crate's and others'.
//!
//! `make test` starts a private broker and says where it is in two environment variables. Without
//! them a test fails, and says so.

mod management;

use super::{AmqpBus, AmqpOptions, AmqpRole};
use crate::bus::Bus;
use crate::bus::conformance::Fixture;
use crate::name::NodeName;
use async_trait::async_trait;
use management::Management;
use std::sync::{Arc, Mutex};

/// A virtual host on a real broker.
pub struct TestBroker {
    management: Management,
    vhost: String,
    url: String,
    buses: Mutex<Vec<Arc<AmqpBus>>>,
}

/// An environment variable of the test services.
///
/// # Panics
/// When it is not set.
#[must_use]
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, which starts a broker for this")
    })
}

impl TestBroker {
    /// Makes a virtual host.
    pub async fn start() -> Self {
        let management = Management::new(&setting("LONGSHORE_TEST_AMQP_MANAGEMENT"));
        let vhost = format!("test-{}", uuid::Uuid::now_v7());
        management.put(&format!("/api/vhosts/{vhost}")).await;
        let mut url = url::Url::parse(&setting("LONGSHORE_TEST_AMQP_URL")).unwrap();
        let user = url.username().to_owned();
        management
            .put(&format!("/api/permissions/{vhost}/{user}"))
            .await;
        url.set_path(&vhost);
        Self {
            management,
            vhost,
            url: url.into(),
            buses: Mutex::default(),
        }
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new pair of connections. [`Fixture::finish`] closes it.
    pub fn bus(&self, role: AmqpRole) -> Arc<AmqpBus> {
        let options = AmqpOptions {
            url: self.url.clone().into(),
            role,
            tls: None,
        };
        let bus = Arc::new(AmqpBus::start(options).unwrap());
        self.buses.lock().unwrap().push(Arc::clone(&bus));
        bus
    }

    /// Ends every connection of this test, as an operator or a failing network would; how many
    /// the broker knew of.
    pub async fn cut_connections(&self) -> usize {
        let connections = self
            .management
            .get(&format!("/api/vhosts/{}/connections", self.vhost))
            .await;
        let names: Vec<String> = connections
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        for name in &names {
            let name = name.replace(' ', "%20").replace('>', "%3E");
            self.management
                .delete(&format!("/api/connections/{name}"))
                .await;
        }
        names.len()
    }

    /// Deletes a queue under whoever uses it.
    pub async fn delete_queue(&self, queue: &str) {
        self.management
            .delete(&format!("/api/queues/{}/{queue}", self.vhost))
            .await;
    }
}

#[async_trait]
impl Fixture for TestBroker {
    fn orchestrator(&self) -> Arc<dyn Bus> {
        self.bus(AmqpRole::Orchestrator)
    }

    fn node(&self, name: &NodeName) -> Arc<dyn Bus> {
        self.bus(AmqpRole::Node(name.clone()))
    }

    async fn finish(&self) {
        let buses = std::mem::take(&mut *self.buses.lock().unwrap());
        futures::future::join_all(buses.iter().map(|bus| bus.close())).await;
        self.management
            .delete(&format!("/api/vhosts/{}", self.vhost))
            .await;
    }
}
