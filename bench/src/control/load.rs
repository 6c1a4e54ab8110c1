//! Asking for deployments: a lean HTTP client, so that asking takes little from what is measured.

use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A kept connection.
pub(crate) struct Client {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "Host: {address}\r\nAuthorization: Bearer {}\r\nAccept: application/json\r\n",
            testkit::TOKEN
        );
        Ok(Self {
            stream,
            head,
            buffer: Vec::new(),
        })
    }

    /// Sends a GraphQL request; the body of its answer, which is a success without errors.
    pub(crate) async fn graphql(&mut self, body: &str) -> Result<&str> {
        let request = format!(
            "POST /graphql HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        let answer = self.exchange(&request).await?;
        ensure!(!answer.contains("\"errors\""), "refused: {answer}");
        Ok(answer)
    }

    /// Asks for a page.
    pub(crate) async fn get(&mut self, path: &str) -> Result<&str> {
        let request = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.head);
        self.exchange(&request).await
    }

    async fn exchange(&mut self, request: &str) -> Result<&str> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let (body, length) = loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the server closed the connection"
            );
            if let Some(found) = head_of(&self.buffer)? {
                break found;
            }
        };
        while self.buffer.len() < body + length {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the server closed the connection"
            );
        }
        Ok(std::str::from_utf8(&self.buffer[body..])?)
    }
}

/// Where the body begins and how long it is, once the head is there.
fn head_of(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
    ensure!(
        head.starts_with("http/1.1 200"),
        "answered {head}: {}",
        String::from_utf8_lossy(&buffer[end..])
    );
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("a length")?;
    Ok(Some((end + 4, length.trim().parse()?)))
}

/// How deployments are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// How many in all.
    pub(crate) deployments: usize,
    /// Requests at once.
    pub(crate) connections: usize,
    /// Mutations in one request.
    pub(crate) aliases: usize,
    /// Deployments a second; as fast as answers come when absent.
    pub(crate) rate: Option<f64>,
}

/// When each mutation was sent, by the deployment's number, and how long its answer took.
pub(crate) struct Asked {
    pub(crate) sent: Vec<Instant>,
    pub(crate) answers: Vec<Duration>,
}

/// The name of a deployment.
pub(crate) fn name(run: &str, index: usize) -> String {
    format!("{run}-{index}")
}

/// The number in a deployment's name.
pub(crate) fn number(name: &str) -> Option<usize> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// Asks for all deployments; returns once the last was answered.
pub(crate) async fn ask(address: &str, run: &str, asking: Asking) -> Result<Asked> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..asking.connections {
        let (address, run, next) = (address.to_owned(), run.to_owned(), Arc::clone(&next));
        clients.spawn(async move {
            let mut client = Client::connect(&address).await?;
            let mut asked = Vec::new();
            loop {
                let first = next.fetch_add(asking.aliases, Ordering::Relaxed);
                if first >= asking.deployments {
                    return Ok::<_, anyhow::Error>(asked);
                }
                let last = (first + asking.aliases).min(asking.deployments);
                if let Some(rate) = asking.rate {
                    let due = begun + Duration::from_secs_f64(first as f64 / rate);
                    tokio::time::sleep_until(due.into()).await;
                }
                let body = mutation(&run, first..last);
                let sent = Instant::now();
                client.graphql(&body).await?;
                asked.push((first..last, sent, sent.elapsed()));
            }
        });
    }
    let mut asked = Asked {
        sent: vec![begun; asking.deployments],
        answers: Vec::new(),
    };
    while let Some(client) = clients.join_next().await {
        for (range, sent, took) in client?? {
            asked.sent[range].fill(sent);
            asked.answers.push(took);
        }
    }
    Ok(asked)
}

fn mutation(run: &str, range: std::ops::Range<usize>) -> String {
    use std::fmt::Write;
    let mut fields = String::new();
    for index in range {
        // Writing to a text cannot fail.
        let _ = write!(
            fields,
            "d{index}:createDeployment(input:{{name:\\\"{}\\\",git:{{url:\\\"https://git.example/team/app.git\\\",pollSeconds:0}}}}){{id}}",
            name(run, index)
        );
    }
    format!("{{\"query\":\"mutation{{{fields}}}\"}}")
}
