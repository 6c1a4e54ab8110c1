//! The world around a Longshore under test: Git over HTTP, links that can be cut, databases and
//! virtual hosts of a test's own, the public API as a client writes it, and what Docker itself says.
//!
//! Shared by the end-to-end tests and the benchmarks. It knows nothing of the crates inside the
//! binary, and it fails loudly: a broken test environment must never look like a passing test.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test kit fails loudly"
)]

pub mod api;
pub mod daemon;
pub mod docker;
pub mod engine;
pub mod fixture;
pub mod git_server;
pub mod netns;
pub mod oracle;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod registry;
pub mod services;
pub mod ssh_server;
pub mod tls;

use std::future::Future;
use std::time::{Duration, Instant};

/// The token that every server of the tests is given.
pub const TOKEN: &str = "end-to-end-token-0123456789abcdef0123456789abcdef";

/// How long a condition may take to come true on a busy two-core machine. Tests end as soon as it
/// does; nothing is asserted about durations.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives a value; panics with `what` when it does not come.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "after {PATIENCE:?}, still not: {what}"
        );
        // Conditions are seen from outside the processes: there is no event to wait for here.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An HTTP client whose requests end within this time.
#[must_use]
pub fn client(timeout: Duration) -> reqwest::Client {
    // Whoever comes first installs it. Nothing here speaks TLS, but reqwest asks for a provider
    // when another crate of the build turned its TLS on.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .build()
        .expect("a client")
}

/// The body of a GET, when it answers 200 within two seconds.
pub async fn body_of(url: &str) -> Option<String> {
    ask(&client(Duration::from_secs(2)), url).await
}

/// The body of a GET by a client that is kept, when it answers 200 in time.
pub async fn ask(client: &reqwest::Client, url: &str) -> Option<String> {
    let response = client.get(url).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    response.text().await.ok()
}

/// A port that nobody listens on now.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port()
}

/// A port that nobody listens on now, out of those that the system does not give to outgoing
/// connections: it is still free when whoever listens there is away for a while.
#[must_use]
pub fn steady_port() -> u16 {
    let seed = uuid::Uuid::new_v4().as_u128();
    (0..1000)
        .map(|step| u16::try_from(15_000 + (seed + step * 7) % 10_000).expect("below 25000"))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port between 15000 and 24999")
}
