//! Subscribers by the thousand: a WebSocket client that only counts, so that counting takes little
//! from what is measured.

use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const QUERY: &str = "subscription{deploymentStatus{deploymentId revisionId revision epoch seq status failureReason detail at}}";

/// What subscribers heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Messages, over all subscribers.
    pub(super) messages: AtomicUsize,
}

/// One in so many subscribers looks at when an event was recorded.
const LOOKS: usize = 50;

/// Subscribes this many times; returns once all follow. Delays in milliseconds go to `delays`.
pub(super) async fn subscribe(
    address: &str,
    count: usize,
    delays: &mpsc::UnboundedSender<f64>,
) -> Result<(Arc<Heard>, tokio::task::JoinSet<Result<()>>)> {
    let heard = Arc::new(Heard::default());
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..count {
        let mut socket = Socket::open(address).await?;
        let (heard, delays) = (
            Arc::clone(&heard),
            (number % LOOKS == 0).then(|| delays.clone()),
        );
        readers.spawn(async move {
            loop {
                let text = socket.text().await?;
                if !text.contains("\"next\"") {
                    bail!("a subscription ended: {text}");
                }
                ensure!(text.contains("\"REQUESTED\""), "not an event: {text}");
                if let Some(delays) = &delays {
                    // Whoever measured may have stopped listening.
                    let _ = delays.send(delay(&text)?);
                }
                heard.messages.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Ok((heard, readers))
}

fn delay(text: &str) -> Result<f64> {
    let (_, rest) = text.split_once("\"at\":\"").context("a time")?;
    let (at, _) = rest.split_once('"').context("a time")?;
    let at: chrono::DateTime<chrono::Utc> = at.parse()?;
    Ok((chrono::Utc::now() - at).as_seconds_f64() * 1000.0)
}

struct Socket {
    stream: BufReader<TcpStream>,
}

impl Socket {
    /// Connects, says who it is and subscribes; the server answers a ping after it has begun.
    async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self {
            stream: BufReader::with_capacity(8 * 1024, stream),
        };
        let upgrade = format!(
            "GET /graphql HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        );
        socket
            .stream
            .get_mut()
            .write_all(upgrade.as_bytes())
            .await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.stream.read_u8().await?);
        }
        ensure!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        let token = testkit::TOKEN;
        socket
            .say(&format!(
                r#"{{"type":"connection_init","payload":{{"Authorization":"Bearer {token}"}}}}"#
            ))
            .await?;
        socket.until("connection_ack").await?;
        socket
            .say(&format!(
                r#"{{"type":"subscribe","id":"1","payload":{{"query":"{QUERY}"}}}}"#
            ))
            .await?;
        socket.say(r#"{"type":"ping"}"#).await?;
        socket.until("pong").await?;
        Ok(socket)
    }

    async fn until(&mut self, wanted: &str) -> Result<()> {
        let text = self.text().await?;
        ensure!(text.contains(wanted), "{text} instead of {wanted}");
        Ok(())
    }

    /// Sends a text, masked with zeroes: the mask is there for proxies, and there is none.
    async fn say(&mut self, text: &str) -> Result<()> {
        let mut frame = vec![0x81];
        match u16::try_from(text.len())? {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend(long.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        Ok(self.stream.get_mut().write_all(&frame).await?)
    }

    /// The next text; pings are answered on the way.
    async fn text(&mut self) -> Result<String> {
        loop {
            let kind = self.stream.read_u8().await? & 0x0f;
            let length = match self.stream.read_u8().await? & 0x7f {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length)?];
            self.stream.read_exact(&mut payload).await?;
            match kind {
                0x1 => return Ok(String::from_utf8(payload)?),
                0x8 => bail!("closed: {}", String::from_utf8_lossy(&payload)),
                0x9 => {
                    self.stream
                        .get_mut()
                        .write_all(&[0x8a, 0x80, 0, 0, 0, 0])
                        .await?
                }
                _ => {}
            }
        }
    }
}
