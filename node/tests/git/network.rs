//! Servers that are not there, not allowed, or not honest.

use crate::support::{CONFIG, DOCKERFILE, Place, child};
use node::git::FetchError;
use shared::guard::GuardPolicy;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::git_server::GitServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that answers each connection by `answer` and tells of each.
async fn server<F>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The test may have ended.
            let _ = sender.send(());
            tokio::spawn(answer(stream));
        }
    });
    (address, connections)
}

/// Reads the head of a request, answers with `response` and closes.
async fn respond(mut stream: TcpStream, response: String) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    // The client may be gone.
    let _ = stream.write_all(response.as_bytes()).await;
}

fn failed(error: &FetchError, words: &str) {
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn hosts_and_repositories_that_are_not_there() {
    let place = Place::new();
    failed(
        &place.refused("https://nowhere.invalid/a.git").await,
        "`nowhere.invalid` cannot be found",
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for scheme in ["http", "https"] {
        let error = place.refused(&format!("{scheme}://{closed}/a.git")).await;
        failed(&error, "cannot connect to `127.0.0.1`");
        failed(&error, "refused");
    }
    let server = GitServer::start().await;
    let url = server
        .repository("app", &[CONFIG])
        .url
        .replace("app", "other");
    failed(&place.refused(&url).await, "no such repository");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn addresses_that_are_not_allowed() {
    let (address, mut connections) = server(|_| async {}).await;
    let mut place = Place::new();
    place.policy.guard = GuardPolicy::default();
    let port = address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.1",
        "0.0.0.0",
    ] {
        failed(
            &place.refused(&format!("http://{host}:{port}/a.git")).await,
            "which is not allowed here",
        );
    }
    failed(
        &place
            .refused("https://169.254.169.254/latest/meta-data")
            .await,
        "link-local",
    );
    failed(
        &place
            .refused(&format!("ssh://git@127.0.0.1:{port}/a.git"))
            .await,
        "which is not allowed here",
    );
    assert!(connections.try_recv().is_err(), "nobody was connected to");

    place.policy.guard.allowed = vec!["localhost".parse().unwrap()];
    failed(
        &place
            .refused(&format!("http://127.0.0.1:{port}/a.git"))
            .await,
        "which is not allowed here",
    );
    place
        .refused(&format!("http://localhost:{port}/a.git"))
        .await;
    assert!(connections.recv().await.is_some());
}

#[tokio::test]
async fn redirects_lead_nowhere() {
    let (elsewhere, mut reached) = server(|_| async {}).await;
    for location in [
        format!("http://{elsewhere}/a.git/info/refs?service=git-upload-pack"),
        format!(
            "http://localhost:{}/a.git/info/refs?service=git-upload-pack",
            elsewhere.port()
        ),
        format!("https://{elsewhere}/a.git/info/refs?service=git-upload-pack"),
    ] {
        let response =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let (address, _connections) = server(move |stream| respond(stream, response.clone())).await;
        let error = Place::new()
            .refused(&format!("http://{address}/a.git"))
            .await;
        assert!(
            matches!(error, FetchError::Failed { .. }),
            "{location}: {error:?}"
        );
    }
    assert!(reached.try_recv().is_err(), "the second server was reached");
}

#[tokio::test]
async fn an_answer_that_is_not_gits() {
    for response in [
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 4\r\n\r\n00",
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 8\r\n\r\nffff....",
        "SSH-2.0-x\r\n",
        "",
    ] {
        let (address, _connections) =
            server(move |stream| respond(stream, response.to_owned())).await;
        let place = Place::new();
        let error = place.refused(&format!("http://{address}/a.git")).await;
        assert!(
            matches!(error, FetchError::Failed { .. }),
            "{response:?}: {error:?}"
        );
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up() {
    let (address, _connections) = server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let mut place = Place::new();
    place.limits.stall = Duration::from_secs(1);
    for scheme in ["http", "https"] {
        assert_eq!(
            place.refused(&format!("{scheme}://{address}/a.git")).await,
            FetchError::Stalled { seconds: 1 }
        );
    }
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_drips_is_given_up() {
    let (address, _connections) = server(|mut stream| async move {
        // An answer before its question would be given up at once.
        let _ = stream.read(&mut [0; 1]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            beat.tick().await;
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    })
    .await;
    let mut place = Place::new();
    place.limits.stall = Duration::from_secs(2);
    place.limits.wall = Duration::from_secs(3);
    assert_eq!(
        place.refused(&format!("http://{address}/a.git")).await,
        FetchError::Timeout { seconds: 3 }
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn cancelling_kills_the_child() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let (address, mut connections) = server(move |mut stream| {
        let closed = closed.clone();
        async move {
            let mut rest = Vec::new();
            // Ends when the child's end of the connection does.
            let _ = stream.read_to_end(&mut rest).await;
            let _ = closed.send(());
        }
    })
    .await;
    let place = Place::new();
    let cancel = place.cancel.clone();
    let url = format!("http://{address}/a.git");
    let (error, ()) = tokio::join!(place.fetch(&url), async move {
        connections.recv().await.unwrap();
        cancel.cancel();
    });
    assert_eq!(error.unwrap_err(), FetchError::Cancelled);
    closings.recv().await.unwrap();
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn others_fetch_while_one_stalls() {
    let (address, mut connections) = server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let git = GitServer::start().await;
    let repository = git.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let url = format!("http://{address}/a.git");
    let stalled = place.fetch(&url);
    tokio::pin!(stalled);
    tokio::select! {
        _ = &mut stalled => panic!("it cannot end"),
        _ = connections.recv() => {}
    }
    place.fetch(&repository.url).await.unwrap();
    place.cancel.cancel();
    assert_eq!(stalled.await.unwrap_err(), FetchError::Cancelled);
}

#[tokio::test]
async fn a_child_does_not_outlive_its_parent() {
    let (address, mut connections) = server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let place = Place::new();
    std::fs::create_dir_all(place.mirror_dir()).unwrap();
    let order = serde_json::to_value(place.order(&format!("http://{address}/a.git"))).unwrap();
    let mut ask = order;
    ask["ask"] = "fetch".into();
    let mut process = std::process::Command::new(child().program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    writeln!(input, "{ask}").unwrap();
    connections.recv().await.unwrap();
    // What happens when the parent is killed.
    drop(input);
    let started = Instant::now();
    tokio::task::spawn_blocking(move || process.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_unknown_ssh_host_is_refused_before_anything_is_said() {
    let (address, mut connections) = server(|_| async {}).await;
    let place = Place::new();
    let error = place.refused(&format!("ssh://git@{address}/a.git")).await;
    failed(&error, "is not known to the node");
    assert!(connections.try_recv().is_err());
}
