//! The listener: where it listens, and whom it waits for.

use crate::server::{Server, TOKEN, engine};
use schema::{Metrics, ServeError, ServeSettings, TokenError, serve};
use shared::bus::local::LocalBus;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn error_of(listen: SocketAddr, token: &str) -> ServeError {
    let (stop, data) = (CancellationToken::new(), tempfile::tempdir().unwrap());
    let (orchestrator, _service) = engine(&data, LocalBus::new(), &stop).await;
    let settings = ServeSettings {
        listen,
        admin_token: token.into(),
        metrics: Metrics::detached(),
    };
    serve(orchestrator, settings, stop).await.unwrap_err()
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = error_of(address, TOKEN).await;
    assert!(matches!(error, ServeError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_token_that_protects_nothing_stops_the_start() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    assert!(matches!(
        error_of(any, "").await,
        ServeError::Token(TokenError::Empty)
    ));
    assert!(matches!(
        error_of(any, "guessable").await,
        ServeError::Token(TokenError::TooShort { length: 9 })
    ));
}

#[tokio::test]
async fn a_request_that_never_arrives_is_not_waited_for() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST /graphql HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    // From here on the clock jumps to whatever is waited for next: the server gives up before we do.
    tokio::time::pause();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        stream.read_to_end(&mut answer),
    )
    .await;
    assert!(ended.is_ok(), "the server still waits");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    // The server may stop reading before everything is sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    if stream.read_exact(&mut answer).await.is_ok() {
        assert_eq!(answer, b"HTTP/1.1 431");
    }
    assert_eq!(
        server
            .client
            .get(server.url("/healthz"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let mut server = Server::start().await;
    assert_eq!(
        server
            .client
            .get(server.url("/healthz"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "alive\n"
    );
    server.stop.cancel();
    while server.services.join_next().await.is_some() {}
    assert!(TcpStream::connect(server.address).await.is_err());
}
