//! What is shown when something that the server needs does not answer.

use crate::server::{Server, body};
use schema::Metrics;
use shared::bus::local::LocalBus;

#[tokio::test]
async fn a_server_without_its_bus_is_alive_but_not_ready() {
    let bus = LocalBus::new();
    let (server, _service) = Server::without_loops(bus.clone(), Metrics::detached()).await;
    bus.close();
    let get = async |path: &str| server.client.get(server.url(path)).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    let ready = get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let reasons = body(ready).await;
    assert_eq!(
        (&reasons["ready"], &reasons["database"]),
        (&false.into(), &"up".into()),
        "{reasons}"
    );
    assert!(
        reasons["bus"].as_str().is_some_and(|reason| reason != "up"),
        "{reasons}"
    );
}
