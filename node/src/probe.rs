//! One question to an application: does it listen, does it answer. How often to ask, and what to
//! make of the answers, is the caller's business.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A status line is short; what is longer is not one.
const STATUS_LINE_LIMIT: usize = 256;

/// How long the engine's own proxy is given to close a connection that has nobody behind it.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// How an application is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At its container's own address.
    Direct,
    /// Through a port that the engine publishes: there a connection always succeeds, and is closed
    /// at once when nobody listens.
    Published,
}

/// Why an application does not count as answering.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// Nothing listens there.
    #[error("nothing listens on port {port}")]
    Refused {
        /// The port.
        port: u16,
    },
    /// No answer in time.
    #[error("no answer within {} ms", limit.as_millis())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The connection was closed before anything was said.
    #[error("the connection was closed at once")]
    Closed,
    /// An HTTP status that is neither 2xx nor 3xx.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer is not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The connection broke, or the address cannot be reached.
    #[error("{detail}")]
    Broken {
        /// The system's words.
        detail: String,
    },
}

/// Connects, and for a published port sees whether the connection lasts.
///
/// # Errors
/// [`ProbeFailure`].
pub async fn probe_tcp(
    address: SocketAddr,
    reach: Reach,
    limit: Duration,
) -> Result<(), ProbeFailure> {
    within(limit, async {
        let stream = connect(address).await?;
        match reach {
            Reach::Direct => Ok(()),
            Reach::Published => lasts(&stream).await,
        }
    })
    .await
}

/// Asks for `path` and reads the status line; the body is not read. Returns the status.
///
/// # Errors
/// [`ProbeFailure::Status`] for anything but 2xx and 3xx, and the other kinds of [`ProbeFailure`].
pub async fn probe_http(
    address: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<u16, ProbeFailure> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: longshore-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        request_target(path)
    );
    within(limit, async {
        let mut stream = connect(address).await?;
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| broken(&error, address))?;
        let status = read_status(&mut stream, address).await?;
        if (200..400).contains(&status) {
            Ok(status)
        } else {
            Err(ProbeFailure::Status { status })
        }
    })
    .await
}

async fn within<T>(
    limit: Duration,
    probe: impl Future<Output = Result<T, ProbeFailure>>,
) -> Result<T, ProbeFailure> {
    tokio::time::timeout(limit, probe)
        .await
        .unwrap_or(Err(ProbeFailure::Timeout { limit }))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeFailure> {
    TcpStream::connect(address)
        .await
        .map_err(|error| broken(&error, address))
}

async fn lasts(stream: &TcpStream) -> Result<(), ProbeFailure> {
    let mut byte = [0];
    match tokio::time::timeout(CLOSE_WAIT, stream.peek(&mut byte)).await {
        // Still open and silent, or the application speaks first.
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0) | Err(_)) => Err(ProbeFailure::Closed),
    }
}

async fn read_status(stream: &mut TcpStream, address: SocketAddr) -> Result<u16, ProbeFailure> {
    let mut line = Vec::with_capacity(STATUS_LINE_LIMIT);
    let mut head = stream.take(STATUS_LINE_LIMIT as u64);
    while !line.contains(&b'\n') {
        let count = head
            .read_buf(&mut line)
            .await
            .map_err(|error| broken(&error, address))?;
        if count == 0 {
            break;
        }
    }
    if line.is_empty() {
        return Err(ProbeFailure::Closed);
    }
    parse_status(&line).ok_or(ProbeFailure::NotHttp)
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = text.split_ascii_whitespace();
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    (100..600).contains(&status).then_some(status)
}

/// The path with what may not stand in a request line escaped, so that it stays one line.
fn request_target(path: &str) -> String {
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => target.push(char::from(byte)),
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

fn broken(error: &std::io::Error, address: SocketAddr) -> ProbeFailure {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ProbeFailure::Refused {
            port: address.port(),
        },
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
            ProbeFailure::Closed
        }
        _ => ProbeFailure::Broken {
            detail: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Answers one connection with `answer`, then keeps it open or closes it.
    async fn application(answer: &'static str, close: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !answer.is_empty() {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            if !close {
                std::future::pending::<()>().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_status_line_is_enough() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", Ok(200)),
            ("HTTP/1.0 302 Found\r\n", Ok(302)),
            (
                "HTTP/1.1 503 Busy\r\n\r\n",
                Err(ProbeFailure::Status { status: 503 }),
            ),
            ("SSH-2.0-x\r\n", Err(ProbeFailure::NotHttp)),
            ("HTTP/1.1 9999 x\r\n", Err(ProbeFailure::NotHttp)),
        ] {
            let address = application(answer, false).await;
            assert_eq!(probe_http(address, "/", LIMIT).await, expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn nobody_there_and_nobody_behind_are_failures() {
        let unused = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(
            probe_tcp(unused, Reach::Direct, LIMIT).await,
            Err(ProbeFailure::Refused {
                port: unused.port()
            })
        );
        let closing = application("", true).await;
        assert_eq!(
            probe_tcp(closing, Reach::Published, LIMIT).await,
            Err(ProbeFailure::Closed)
        );
        let silent = application("", false).await;
        assert_eq!(probe_tcp(silent, Reach::Published, LIMIT).await, Ok(()));
        let silent = application("", false).await;
        let limit = Duration::from_millis(50);
        assert_eq!(
            probe_http(silent, "/", limit).await,
            Err(ProbeFailure::Timeout { limit })
        );
    }

    #[test]
    fn a_path_stays_in_its_line() {
        assert_eq!(request_target("/a b\r\nX: y"), "/a%20b%0D%0AX:%20y");
        assert_eq!(request_target("healthz?a=%20"), "/healthz?a=%20");
    }
}
