//! The ports that are listened on, and the connections through them.

use super::protocol::{ForwarderState, Route, RouteState, TargetState};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long one attempt to reach a target may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a target may refuse, as one does whose container is being restarted.
const RETRY_FOR: Duration = Duration::from_secs(3);
/// The time between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The part of all connections that one port may have.
const SHARE: usize = 4;
/// What one direction of one connection holds in memory, in bytes.
const BUFFER: usize = 16 * 1024;
/// After a failed accept, which mostly means that file descriptors are used up for the moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All ports of a forwarder.
#[derive(Debug)]
pub(super) struct Ports {
    open: BTreeMap<u16, Port>,
    shared: Arc<Shared>,
}

/// What the connections of all ports share.
#[derive(Debug)]
struct Shared {
    /// One permit for each connection.
    room: Arc<Semaphore>,
    /// How many of them one port may have: the clients of one application close no other's.
    share: usize,
    targets: Targets,
}

#[derive(Debug)]
struct Port {
    target: watch::Sender<SocketAddr>,
    /// Accepts connections; none while the port could not be bound.
    accepting: Option<AbortHandle>,
    counts: Arc<Counts>,
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    failed: AtomicU64,
}

/// A port that cannot be bound.
#[derive(Debug)]
pub(super) struct PortTaken {
    pub(super) port: u16,
    pub(super) error: io::Error,
}

impl Ports {
    /// Without any port, and with room for so many connections.
    pub(super) fn new(connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        let share = (connections / SHARE).max(1);
        Self {
            open: BTreeMap::new(),
            shared: Arc::new(Shared {
                room,
                share,
                targets: Targets::default(),
            }),
        }
    }

    /// Binds those of the ports that are not bound yet, all or none.
    pub(super) async fn bind(
        &self,
        routes: &[Route],
    ) -> Result<HashMap<u16, TcpListener>, PortTaken> {
        let mut bound = HashMap::new();
        for Route { port, .. } in routes {
            let listening = self
                .open
                .get(port)
                .is_some_and(|open| open.accepting.is_some());
            if !listening && !bound.contains_key(port) {
                let listener = bind(*port)
                    .await
                    .map_err(|error| PortTaken { port: *port, error })?;
                bound.insert(*port, listener);
            }
        }
        Ok(bound)
    }

    /// Puts routes in force, on ports that are open already or are in `bound`.
    pub(super) fn put(&mut self, routes: &[Route], mut bound: HashMap<u16, TcpListener>) {
        for Route { port, target } in routes {
            let open = self.open.entry(*port).or_insert_with(|| Port {
                target: watch::Sender::new(*target),
                accepting: None,
                counts: Arc::default(),
            });
            open.target.send_replace(*target);
            if let Some(listener) = bound.remove(port) {
                let accepting = accept(
                    listener,
                    open.target.subscribe(),
                    open.counts.clone(),
                    self.shared.clone(),
                );
                open.accepting = Some(tokio::spawn(accepting).abort_handle());
            }
        }
    }

    /// Takes ports out of force. Their open connections go on.
    pub(super) fn remove(&mut self, ports: &[u16]) {
        self.open.retain(|port, _| !ports.contains(port));
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.open.iter().map(|(port, open)| Route {
            port: *port,
            target: *open.target.borrow(),
        })
    }

    pub(super) fn state(&self) -> ForwarderState {
        let route_state = |(port, open): (&u16, &Port)| RouteState {
            route: Route {
                port: *port,
                target: *open.target.borrow(),
            },
            bound: open.accepting.is_some(),
            accepted: open.counts.accepted.load(Ordering::Relaxed),
            failed: open.counts.failed.load(Ordering::Relaxed),
        };
        ForwarderState {
            pid: std::process::id(),
            routes: self.open.iter().map(route_state).collect(),
            targets: self.shared.targets.state(),
        }
    }

    /// Waits until a target has no connection; gives the number that is left after `limit`.
    pub(super) fn drained(
        &self,
        target: SocketAddr,
        limit: Duration,
    ) -> impl Future<Output = u32> + use<> {
        let shared = self.shared.clone();
        async move {
            let drained = tokio::time::timeout(limit, shared.targets.drained(target)).await;
            if drained.is_ok() {
                0
            } else {
                shared.targets.count(target)
            }
        }
    }
}

/// On all addresses; a port in TIME_WAIT is free (`SO_REUSEADDR` is set for us).
async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    counts: Arc<Counts>,
    shared: Arc<Shared>,
) {
    let share = Arc::new(Semaphore::new(shared.share));
    loop {
        // Further ones wait in the kernel's queue.
        let Ok(mine) = share.clone().acquire_owned().await else {
            return;
        };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(_) => {
                // The connection waits in the kernel's queue.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let Ok(permit) = shared.room.clone().acquire_owned().await else {
            return;
        };
        let (target, counts, shared) = (target.clone(), counts.clone(), shared.clone());
        tokio::spawn(async move {
            if pipe(client, target, &shared.targets).await.is_none() {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            drop((permit, mine));
        });
    }
}

/// Carries one connection to its end; none when no target could be reached.
async fn pipe(
    mut client: TcpStream,
    target: watch::Receiver<SocketAddr>,
    targets: &Targets,
) -> Option<()> {
    let (mut server, _open) = reach(target, targets).await?;
    // Small writes of either side are passed on at once.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // Ends when both sides have ended their half, or one broke; who is told by the other side's
    // socket closing.
    let _ =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
    Some(())
}

/// Connects to the target, or to the one that takes its place meanwhile.
async fn reach<'a>(
    mut target: watch::Receiver<SocketAddr>,
    targets: &'a Targets,
) -> Option<(TcpStream, OpenConnection<'a>)> {
    let give_up = Instant::now() + RETRY_FOR;
    loop {
        let address = *target.borrow_and_update();
        // Counted from here, so that a target without connections stays without them.
        let open = targets.enter(address);
        let attempt = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address));
        let connected = tokio::select! {
            connected = attempt => connected,
            Ok(()) = target.changed() => continue,
        };
        if let Ok(Ok(server)) = connected {
            return Some((server, open));
        }
        drop(open);
        if Instant::now() >= give_up {
            return None;
        }
        // The port's removal ends the sender; what was accepted before may still get through.
        let _ = tokio::time::timeout(RETRY_PAUSE, target.changed()).await;
        if target.has_changed().is_err() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// How many connections each target has.
#[derive(Debug, Default)]
struct Targets {
    open: Mutex<HashMap<SocketAddr, u32>>,
    /// Told whenever a target has lost its last connection.
    emptied: Notify,
}

impl Targets {
    fn enter(&self, target: SocketAddr) -> OpenConnection<'_> {
        *self.lock().entry(target).or_default() += 1;
        OpenConnection {
            targets: self,
            target,
        }
    }

    fn count(&self, target: SocketAddr) -> u32 {
        self.lock().get(&target).copied().unwrap_or(0)
    }

    async fn drained(&self, target: SocketAddr) {
        loop {
            let emptied = self.emptied.notified();
            if self.count(target) == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn state(&self) -> Vec<TargetState> {
        let open = self.lock();
        let mut state: Vec<_> = open
            .iter()
            .map(|(target, connections)| TargetState {
                target: *target,
                connections: *connections,
            })
            .collect();
        state.sort_unstable_by_key(|state| state.target);
        state
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one connection as long as it is held.
struct OpenConnection<'a> {
    targets: &'a Targets,
    target: SocketAddr,
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        let mut open = self.targets.lock();
        if let Some(count) = open.get_mut(&self.target) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.target);
                drop(open);
                self.targets.emptied.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Says its name, then repeats what it hears.
    async fn application(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    stream.write_all(name.as_bytes()).await.unwrap();
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
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

    async fn put(ports: &mut Ports, port: u16, target: SocketAddr) {
        let routes = [Route { port, target }];
        let bound = ports.bind(&routes).await.unwrap();
        ports.put(&routes, bound);
    }

    async fn hear(stream: &mut TcpStream) -> String {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        String::from_utf8_lossy(&byte).into_owned()
    }

    #[tokio::test]
    async fn a_switch_keeps_open_connections_where_they_are() {
        let (old, new) = (application("o").await, application("n").await);
        let (port, mut ports) = (free_port().await, Ports::new(8));
        put(&mut ports, port, old).await;
        let mut first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(hear(&mut first).await, "o");

        put(&mut ports, port, new).await;
        let mut second = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(hear(&mut second).await, "n");
        assert_eq!(ports.drained(old, Duration::from_millis(10)).await, 1);

        // Half-close: the end of what the client says arrives, and the answer still comes back.
        first.write_all(b"x").await.unwrap();
        first.shutdown().await.unwrap();
        let mut rest = String::new();
        first.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "x");
        assert_eq!(ports.drained(old, Duration::from_secs(5)).await, 0);
        assert_eq!(ports.state().routes[0].accepted, 2);
    }

    #[tokio::test]
    async fn the_clients_of_one_port_leave_room_for_those_of_another() {
        let (busy, other, mut ports) = (free_port().await, free_port().await, Ports::new(8));
        put(&mut ports, busy, application("b").await).await;
        put(&mut ports, other, application("o").await).await;
        let mut held = Vec::new();
        for _ in 0..9 {
            held.push(TcpStream::connect(("127.0.0.1", busy)).await.unwrap());
        }
        assert_eq!(hear(&mut held[0]).await, "b");
        let mut client = TcpStream::connect(("127.0.0.1", other)).await.unwrap();
        assert_eq!(hear(&mut client).await, "o");
        // Whoever waits has its turn.
        drop(held.drain(..8));
        assert_eq!(hear(&mut held[0]).await, "b");
    }

    #[tokio::test]
    async fn a_target_that_comes_late_is_waited_for() {
        let late = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let (port, mut ports) = (free_port().await, Ports::new(8));
        put(&mut ports, port, late).await;
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let waiting = tokio::spawn(async move { hear(&mut client).await });
        // It is refused by the first and reached at the second, without connecting anew.
        put(&mut ports, port, application("n").await).await;
        assert_eq!(waiting.await.unwrap(), "n");
    }

    #[tokio::test]
    async fn a_port_of_somebody_else_is_named_and_nothing_is_changed() {
        let other = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let (port, free) = (other.local_addr().unwrap().port(), free_port().await);
        let target = "127.0.0.1:1".parse().unwrap();
        let ports = Ports::new(8);
        let routes = [Route { port: free, target }, Route { port, target }];
        let taken = ports.bind(&routes).await.unwrap_err();
        assert_eq!(
            (taken.port, taken.error.kind()),
            (port, io::ErrorKind::AddrInUse)
        );
        // The free one was given back.
        bind(free).await.unwrap();
    }
}
