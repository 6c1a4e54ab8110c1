//! The port forwarder as a process of its own.

use node::forward::{ForwardArgs, ForwardError, Forwarder, ForwarderSettings, Route};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A state directory whose forwarder does not stay long without anything to do.
const SHORT: &str = "short";

/// Says to the second test process which state directory is its forwarder's.
const PARENT_DIR: &str = "LONGSHORE_TEST_FORWARD_PARENT";

fn argument(name: &str) -> Option<PathBuf> {
    std::env::args_os()
        .skip_while(|argument| argument != name)
        .nth(1)
        .map(Into::into)
}

/// Not a test of its own: the forwarder that the tests below start is this very binary, told to
/// run only this. Without a forwarder's arguments there is nothing to do.
#[test]
fn the_forwarder() {
    if let (Some(control), Some(table)) = (argument("--control"), argument("--table")) {
        let is_short = control.components().any(|part| part.as_os_str() == SHORT);
        let idle = if is_short {
            Duration::from_millis(100)
        } else {
            node::forward::IDLE
        };
        let code = node::forward::main(&ForwardArgs {
            control,
            table,
            idle,
        });
        assert_eq!(code, std::process::ExitCode::SUCCESS);
    }
}

/// Not a test of its own: a node that starts a forwarder and is killed.
#[tokio::test]
async fn the_parent() {
    let Some(dir) = std::env::var_os(PARENT_DIR) else {
        return;
    };
    let state = forwarder(Path::new(&dir)).ensure().await.unwrap();
    writeln!(std::io::stdout(), "\nready {}", state.pid).unwrap();
    std::future::pending::<()>().await;
}

fn test_only(name: &str) -> [std::ffi::OsString; 4] {
    [name, "--exact", "--nocapture", "--"].map(Into::into)
}

fn forwarder(dir: &Path) -> Forwarder {
    Forwarder::new(ForwarderSettings {
        program: std::env::current_exe().unwrap(),
        arguments: test_only("forward::the_forwarder").to_vec(),
        state_dir: dir.to_owned(),
    })
}

/// A forwarder that ends with the test.
struct Running {
    forwarder: Forwarder,
    dir: tempfile::TempDir,
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            forwarder: forwarder(dir.path()),
            dir,
        }
    }

    async fn pid(&self) -> u32 {
        self.forwarder.state().await.unwrap().pid
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let forwarder = self.forwarder.clone();
        let ending = std::thread::spawn(move || {
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(forwarder.shutdown())
        });
        if !matches!(ending.join(), Ok(Ok(()))) {
            eprintln!("a forwarder in {} may be left", self.dir.path().display());
        }
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// An application that answers each connection with its name.
async fn application(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 64];
                let count = stream.read(&mut request).await.unwrap();
                assert!(count > 0);
                stream.write_all(name.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

async fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

async fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"hello").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_under_load_loses_no_request() {
    let running = Running::new();
    let port = free_port().await;
    let targets = [application("old").await, application("new").await];
    running
        .forwarder
        .put(&[Route {
            port,
            target: targets[0],
        }])
        .await
        .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let switching = tokio::spawn({
        let (forwarder, done) = (running.forwarder.clone(), done.clone());
        async move {
            let mut switches = 0_usize;
            while !done.load(Ordering::Relaxed) {
                switches += 1;
                forwarder
                    .put(&[Route {
                        port,
                        target: targets[switches % 2],
                    }])
                    .await
                    .unwrap();
            }
            switches
        }
    });
    let mut seen = [0, 0];
    for _ in 0..2000 {
        match ask(port).await.unwrap().as_str() {
            "old" => seen[0] += 1,
            "new" => seen[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    let switches = switching.await.unwrap();
    assert!(
        switches > 10 && seen[0] > 0 && seen[1] > 0,
        "{switches} switches, {seen:?}"
    );
    for target in targets {
        assert_eq!(
            running
                .forwarder
                .drained(target, Duration::from_secs(5))
                .await
                .unwrap(),
            0
        );
    }
    let route = running.forwarder.state().await.unwrap().routes[0].clone();
    assert_eq!((route.accepted, route.failed, route.bound), (2000, 0, true));
}

#[tokio::test]
async fn a_killed_node_leaves_its_forwarder_serving() {
    let running = Running::new();
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(test_only("forward::the_parent"))
        .env(PARENT_DIR, running.dir.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid: u32 = loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("the parent ended early");
        if let Some(pid) = line.strip_prefix("ready ") {
            break pid.parse().unwrap();
        }
    };
    let port = free_port().await;
    running
        .forwarder
        .put(&[Route {
            port,
            target: application("app").await,
        }])
        .await
        .unwrap();
    // SIGKILL.
    parent.kill().await.unwrap();
    assert_eq!(ask(port).await.unwrap(), "app");
    assert_eq!(running.pid().await, pid);
    // A session of its own: what a terminal sends to the node's does not reach it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(
        (fields[2], fields[3]),
        (pid.to_string().as_str(), pid.to_string().as_str())
    );
}

#[tokio::test]
async fn a_forwarder_that_was_killed_comes_back_with_its_table() {
    let running = Running::new();
    let (port, other) = (free_port().await, free_port().await);
    let target = application("app").await;
    running
        .forwarder
        .put(&[
            Route { port, target },
            Route {
                port: other,
                target,
            },
        ])
        .await
        .unwrap();
    running.forwarder.remove(&[other, 1]).await.unwrap();
    let first = running.pid().await;
    kill(first);
    while ask(port).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state = running.forwarder.ensure().await.unwrap();
    assert_ne!(state.pid, first);
    assert_eq!(
        state
            .routes
            .iter()
            .map(|route| route.route)
            .collect::<Vec<_>>(),
        [Route { port, target }]
    );
    assert_eq!(ask(port).await.unwrap(), "app");
    assert!(ask(other).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named_and_the_rest_stays_as_it_was() {
    let running = Running::new();
    let (old, new) = (application("old").await, application("new").await);
    let foreign = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (port, taken) = (free_port().await, foreign.local_addr().unwrap().port());
    running
        .forwarder
        .put(&[Route { port, target: old }])
        .await
        .unwrap();
    let error = running
        .forwarder
        .put(&[
            Route { port, target: new },
            Route {
                port: taken,
                target: new,
            },
        ])
        .await
        .unwrap_err();
    assert!(
        matches!(error, ForwardError::PortTaken { port, .. } if port == taken),
        "{error:?}"
    );
    assert_eq!(ask(port).await.unwrap(), "old");
    drop(foreign);
    running
        .forwarder
        .set(&[Route {
            port: taken,
            target: new,
        }])
        .await
        .unwrap();
    assert_eq!(ask(taken).await.unwrap(), "new");
    assert!(ask(port).await.is_err());
}

#[tokio::test]
async fn two_nodes_handles_share_one_forwarder() {
    let running = Running::new();
    let again = forwarder(running.dir.path());
    let (one, two) = tokio::join!(running.forwarder.ensure(), again.ensure());
    assert_eq!(one.unwrap().pid, two.unwrap().pid);
}

#[tokio::test]
async fn one_that_nobody_needs_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join(SHORT);
    std::fs::create_dir(&place).unwrap();
    let forwarder = forwarder(&place);
    let port = free_port().await;
    let target = application("app").await;
    forwarder.put(&[Route { port, target }]).await.unwrap();
    // A table with a port in it is a reason to stay, also without a word.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ask(port).await.unwrap(), "app");
    forwarder.remove(&[port]).await.unwrap();
    // Asked whether it is there it would stay; the socket goes with it.
    let gone = || async { (!place.join("forward.sock").exists()).then_some(()) };
    testkit::eventually("the forwarder is gone", gone).await;
    assert!(forwarder.state_if_running().await.unwrap().is_none());
}

#[tokio::test]
async fn it_is_small_and_its_socket_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let running = Running::new();
    let target = application("app").await;
    let mut routes = Vec::new();
    for _ in 0..50 {
        routes.push(Route {
            port: free_port().await,
            target,
        });
    }
    running.forwarder.put(&routes).await.unwrap();
    for route in &routes {
        assert_eq!(ask(route.port).await.unwrap(), "app");
    }
    let mode = std::fs::metadata(running.dir.path().join("forward.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let rollup =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", running.pid().await)).unwrap();
    let anonymous: u64 = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss_Anon:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    // What it holds itself; the binary's pages are the node's too.
    assert!(anonymous < 4096, "{rollup}");
}
