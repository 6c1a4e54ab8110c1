//! The way out: a pipe on loopback that reaches one vetted address and nothing else.
//!
//! libgit2 resolves and connects by itself and may follow redirects. So it is not let out: it is
//! given this pipe as its proxy (`https`: CONNECT, with TLS end to end and the certificate checked
//! against the host's name) or as its server (`http`: requests passed on one by one under the host's
//! name; `ssh`: bytes). The pipe dials only an address that the guard let through and only for the
//! host and port it was made for, so neither a redirect nor a second look-up can lead elsewhere. It
//! also counts.

use super::meter::Meter;
use super::stream::End;
use crate::git::error::FetchError;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue, LOCATION};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use shared::guard::GuardPolicy;
use shared::name::shown;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long one address may take to answer a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Makes pipes.
pub(super) struct Network {
    runtime: Runtime,
    guard: GuardPolicy,
    meter: Arc<Meter>,
}

/// How a pipe is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeKind {
    /// As a proxy that opens a tunnel to an HTTPS server.
    Tunnel,
    /// As the HTTP server itself.
    Http,
    /// As the server itself, whatever it speaks.
    Relay,
}

/// A pipe; dropping it closes it.
pub(super) struct Pipe {
    /// Where it listens on loopback.
    pub(super) port: u16,
    _stop: DropGuard,
}

impl Network {
    pub(super) fn new(guard: GuardPolicy, meter: Arc<Meter>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            guard,
            meter,
        })
    }

    /// Resolves and vets a host, and opens a pipe to it.
    pub(super) fn pipe(&self, host: &str, port: u16, kind: PipeKind) -> Result<Pipe, FetchError> {
        self.runtime.block_on(async {
            let addresses = self
                .guard
                .resolve(host, port)
                .await
                .map_err(|error| FetchError::failed(error.to_string()))?;
            let target = Arc::new(Target {
                host: host.to_owned(),
                port,
                addresses,
                meter: self.meter.clone(),
            });
            let opening = |error| FetchError::node("opening a pipe", error);
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(opening)?;
            let port = listener.local_addr().map_err(opening)?.port();
            let stop = CancellationToken::new();
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(accept(listener, target, kind)),
            );
            Ok(Pipe {
                port,
                _stop: stop.drop_guard(),
            })
        })
    }
}

/// The one place that a pipe leads to.
struct Target {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    meter: Arc<Meter>,
}

impl Target {
    fn is(&self, authority: &Authority, default_port: Option<u16>) -> bool {
        let port = authority.port_u16().or(default_port);
        authority.host().eq_ignore_ascii_case(&self.host) && port == Some(self.port)
    }

    /// As it stands in a `Host` header of plain HTTP.
    fn host_header(&self) -> String {
        if self.port == 80 {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Refuses to go where the server sends us, and remembers it for the user.
    fn refuse(&self, elsewhere: &str) -> StatusCode {
        self.meter.trouble(format!(
            "`{}` sends the fetch on to `{}`, which is not followed",
            self.host,
            shown(elsewhere)
        ));
        StatusCode::FORBIDDEN
    }

    /// A connection to the first address that answers.
    async fn dial(&self) -> io::Result<End> {
        let mut last = io::Error::other("it has no address");
        for address in &self.addresses {
            match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    return End::of_server(stream, self.meter.clone());
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            }
        }
        self.meter.trouble(format!(
            "cannot connect to `{}`, port {}: {last}",
            self.host, self.port
        ));
        Err(last)
    }
}

async fn accept(listener: TcpListener, target: Arc<Target>, kind: PipeKind) {
    loop {
        let accepted = listener.accept().await;
        let stream = match accepted.and_then(|(stream, _)| End::of_libgit2(stream)) {
            Ok(stream) => stream,
            Err(error) => return target.meter.trouble(format!("the pipe broke: {error}")),
        };
        let target = target.clone();
        tokio::spawn(async move {
            match kind {
                PipeKind::Relay => {
                    let mut stream = stream;
                    if let Ok(mut upstream) = target.dial().await {
                        // Either end closing, also half-way, is for libgit2 to judge.
                        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
                    }
                }
                PipeKind::Tunnel | PipeKind::Http => {
                    let service = service_fn(|request| answer(request, target.clone(), kind));
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // As above: a connection that ends early is seen by libgit2.
                    let _ = serving.with_upgrades().await;
                }
            }
        });
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    request: Request<Incoming>,
    target: Arc<Target>,
    kind: PipeKind,
) -> Result<Response<Body>, Infallible> {
    let passed = match (kind, request.method()) {
        (PipeKind::Tunnel, &Method::CONNECT) => tunnel(request, &target).await,
        (PipeKind::Http, method) if method != Method::CONNECT => forward(request, &target).await,
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    };
    Ok(passed.unwrap_or_else(empty))
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Opens a tunnel, through which libgit2 speaks TLS with the server.
async fn tunnel(request: Request<Incoming>, target: &Target) -> Result<Response<Body>, StatusCode> {
    match request.uri().authority() {
        Some(authority) if target.is(authority, None) => {}
        other => return Err(target.refuse(other.map_or("somewhere else", Authority::as_str))),
    }
    let (meter, host) = (target.meter.clone(), target.host.clone());
    // Before the server is dialled, which may take longer than libgit2 is given to come back.
    meter.enter();
    let mut upstream = target.dial().await.map_err(|_| {
        meter.leave(&host);
        StatusCode::BAD_GATEWAY
    })?;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // Either end closing is for libgit2 to judge.
            let _ = copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
        }
        meter.leave(&host);
    });
    Ok(empty(StatusCode::OK))
}

/// Passes one request on under the server's name, and its answer back.
async fn forward(
    mut request: Request<Incoming>,
    target: &Target,
) -> Result<Response<Body>, StatusCode> {
    let host = HeaderValue::try_from(target.host_header()).map_err(|_| StatusCode::BAD_REQUEST)?;
    // Requests to a server name only the path; whatever else stands there is not passed on.
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let own_address = request.headers_mut().insert(HOST, host);
    request.headers_mut().remove(CONNECTION);
    let upstream = target.dial().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let broken = |error: hyper::Error| {
        target.meter.trouble(format!(
            "`{}` did not answer as an HTTP server does: {error}",
            target.host
        ));
        StatusCode::BAD_GATEWAY
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(upstream))
        .await
        .map_err(broken)?;
    // Its failure shows in the answer's body.
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await.map_err(broken)?;
    response.headers_mut().remove(CONNECTION);
    keep_on_the_way(&mut response, target, own_address.as_ref())?;
    Ok(response.map(BodyExt::boxed))
}

/// A redirect within the server is led through the pipe; any other ends here.
fn keep_on_the_way<B>(
    response: &mut Response<B>,
    target: &Target,
    own_address: Option<&HeaderValue>,
) -> Result<(), StatusCode> {
    let Some(location) = response
        .headers()
        .get(LOCATION)
        .filter(|_| response.status().is_redirection())
    else {
        return Ok(());
    };
    let text = location.to_str().unwrap_or("(not text)");
    let uri = text.parse::<Uri>().map_err(|_| target.refuse(text))?;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if text.starts_with('/') && !text.starts_with("//") => Ok(()),
        (Some("http"), Some(authority)) if target.is(authority, Some(80)) => {
            let own_address = own_address
                .and_then(|own| own.to_str().ok())
                .ok_or_else(|| target.refuse(text))?;
            let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
            let led = HeaderValue::try_from(format!("http://{own_address}{path}"))
                .map_err(|_| target.refuse(text))?;
            response.headers_mut().insert(LOCATION, led);
            Ok(())
        }
        _ => Err(target.refuse(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    #[test]
    fn a_server_that_is_being_dialled_is_not_left() {
        let meter = Arc::new(Meter::new(1000));
        let guard = GuardPolicy {
            allow_loopback: true,
            ..GuardPolicy::default()
        };
        let network = Network::new(guard, meter.clone()).unwrap();
        // A server that takes no more connections: dialling it gets no answer.
        let (server, _waiting) = network.runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let server = socket.listen(1).unwrap();
            let address = server.local_addr().unwrap();
            let waiting = [
                TcpStream::connect(address).await.unwrap(),
                TcpStream::connect(address).await.unwrap(),
            ];
            (server, waiting)
        });
        let port = server.local_addr().unwrap().port();
        let pipe = network.pipe("127.0.0.1", port, PipeKind::Tunnel).unwrap();
        meter.enter();
        meter.leave("127.0.0.1");
        meter.age();
        assert!(meter.stuck_at().is_some());

        let mut libgit2 = std::net::TcpStream::connect(("127.0.0.1", pipe.port)).unwrap();
        let request = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        libgit2.write_all(request.as_bytes()).unwrap();
        let begun = Instant::now();
        while meter.stuck_at().is_some() {
            assert!(begun.elapsed() < CONNECT_LIMIT / 2, "it is taken for left");
            std::thread::yield_now();
        }
    }
}
