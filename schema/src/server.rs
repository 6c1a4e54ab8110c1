//! The listener: accepts, bounds and ends connections.

use crate::auth::{AdminToken, TokenError};
use crate::http::{App, router};
use crate::metrics::{Metrics, UPKEEP};
use crate::ws::{WebSocketLimits, WebSockets};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use orchestrator::Orchestrator;
use secrecy::SecretString;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the head of a request may take to arrive, also on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 32 * 1024;

/// Connections at once, WebSockets among them; further ones wait.
const CONNECTIONS: usize = 2_000;

/// How long requests that are under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// What an operator sets for the server.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The token that opens everything; at least [`crate::TOKEN_MIN_BYTES`] bytes.
    pub admin_token: SecretString,
    /// The figures to show at `/metrics`.
    pub metrics: Metrics,
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The token protects nothing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Another process listens there.
    #[error("{address} is in use by another process: stop that, or listen elsewhere (--listen)")]
    InUse {
        /// Where it should have listened.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Binds the server. It listens from now on and answers once [`BoundServer::run`] is driven, until
/// `stop` is cancelled.
///
/// # Errors
/// [`ServeError`] when the token protects nothing or the address cannot be had.
pub async fn serve(
    orchestrator: Orchestrator,
    settings: ServeSettings,
    stop: CancellationToken,
) -> Result<BoundServer, ServeError> {
    let token = AdminToken::new(&settings.admin_token)?;
    let address = settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse { address },
            _ => ServeError::Listen { address, source },
        })?;
    let local = listener
        .local_addr()
        .map_err(|source| ServeError::Listen { address, source })?;
    let app = App::new(
        orchestrator,
        token,
        settings.metrics.clone(),
        WebSocketLimits::default(),
    );
    let web_sockets = app.web_sockets.clone();
    Ok(BoundServer {
        listener,
        local,
        router: router(app),
        web_sockets,
        metrics: settings.metrics,
        stop,
    })
}

/// A server that listens.
pub struct BoundServer {
    listener: TcpListener,
    local: SocketAddr,
    router: Router,
    web_sockets: WebSockets,
    metrics: Metrics,
    stop: CancellationToken,
}

impl std::fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundServer")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl BoundServer {
    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` is cancelled; then ends subscriptions with a reason, and gives requests
    /// that are under way a few seconds.
    pub async fn run(self) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = upkeep.tick() => self.metrics.fold(),
                (stream, place) = accept(&self.listener, &places) => self.serve_connection(stream, place, &connections),
            }
        }
        drop(self.listener);
        connections.close();
        let ended = tokio::time::timeout(GRACE, async {
            tokio::join!(self.web_sockets.close(), connections.wait())
        });
        if ended.await.is_err() {
            tracing::warn!(
                grace_s = GRACE.as_secs(),
                "connections outlived the grace period"
            );
        }
    }

    fn serve_connection(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        connections: &TaskTracker,
    ) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let stop = self.stop.clone();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                // Clients that go away or are too slow are everyday life.
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers should not wait for more to come; where the system refuses, they do.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "setting TCP_NODELAY");
                }
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors, usually: asking again at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
