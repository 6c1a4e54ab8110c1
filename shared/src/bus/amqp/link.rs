//! One connection that is kept up.
//!
//! A task owns the connection: it opens one, declares the topology, says that it is up, and waits
//! until the connection is lost or somebody who uses it found it dead ([`Session::abandon`]). Then
//! it pauses for a moment that differs from process to process and begins again.

use super::super::BusError;
use super::error::{STEP_TIMEOUT, from_lapin, within};
use super::options::Endpoint;
use super::topology::Topology;
use futures::StreamExt;
use lapin::tcp::AMQPUriTcpExt;
use lapin::{Connection, ConnectionProperties, Event};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The shortest and the longest pause before the next attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
/// How often a connection that says nothing is looked at; lapin does not announce every loss.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a connection that is being opened is waited for when it is no longer wanted.
const LEAVING: Duration = Duration::from_millis(500);

/// A pause before trying again, different each time: a fleet does not return all at once.
pub(super) fn pause() -> Duration {
    rand::rng().random_range(PAUSE.0..PAUSE.1)
}

/// One open connection.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) connection: Arc<Connection>,
    lost: CancellationToken,
}

impl Session {
    /// Gives the connection up: somebody found that it no longer works.
    pub(super) fn abandon(&self) {
        self.lost.cancel();
    }

    /// Whether the connection is lost or given up; its link may not have said so yet.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until the connection is lost or given up.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// How a link stands.
#[derive(Clone)]
pub(super) enum LinkState {
    /// Connected.
    Up(Session),
    /// Connected, but the broker takes no messages: it is short of disk or memory.
    Blocked(Session, String),
    /// Not connected, and why.
    Down(BusError),
}

impl LinkState {
    /// The connection, unless it is over.
    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Up(session) | Self::Blocked(session, _) => {
                Some(session).filter(|session| !session.is_lost())
            }
            Self::Down(_) => None,
        }
    }

    /// Why messages are not taken now.
    pub(super) fn error(&self) -> BusError {
        match self {
            Self::Down(error) => error.clone(),
            Self::Up(_) | Self::Blocked(..) => BusError::Away {
                reason: "the connection was lost just now".to_owned(),
            },
        }
    }

    pub(super) fn why_down(&self) -> Option<String> {
        match self {
            Self::Up(_) => None,
            Self::Blocked(_, reason) => Some(format!("the broker takes no messages: {reason}")),
            Self::Down(error) => Some(error.to_string()),
        }
    }
}

/// Waits until the link takes messages.
///
/// # Errors
/// Why it does not, when that lasts until the deadline.
pub(super) async fn wait_until_up(
    state: &watch::Receiver<LinkState>,
    deadline: Instant,
) -> Result<(), BusError> {
    let mut state = state.clone();
    // The guard that comes back is dropped at once: it keeps the link from saying anything new.
    let up = async {
        state
            .wait_for(|state| matches!(state, LinkState::Up(_)))
            .await
            .map(drop)
    };
    let waited = tokio::time::timeout_at(deadline, up).await;
    match waited {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(BusError::Closed),
        Err(_) => match &*state.borrow() {
            LinkState::Down(error) => Err(error.clone()),
            LinkState::Up(_) | LinkState::Blocked(..) => Err(BusError::Unconfirmed),
        },
    }
}

/// A handle to one connection that is kept up.
pub(super) struct Link {
    state: watch::Receiver<LinkState>,
}

impl Link {
    pub(super) fn start(
        purpose: &'static str,
        endpoint: Arc<Endpoint>,
        topology: Arc<Topology>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let connecting = BusError::Away {
            reason: format!("connecting to {}", endpoint.place()),
        };
        let (sender, state) = watch::channel(LinkState::Down(connecting));
        let supervisor = Supervisor {
            purpose,
            endpoint,
            topology,
            state: sender,
            stop: stop.clone(),
        };
        tasks.spawn(supervisor.run());
        Self { state }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// The open connection, waited for until the deadline.
    pub(super) async fn session(&self, deadline: Instant) -> Result<Session, BusError> {
        wait_until_up(&self.state, deadline).await?;
        let state = self.state.borrow();
        state.session().cloned().ok_or_else(|| state.error())
    }
}

struct Supervisor {
    purpose: &'static str,
    endpoint: Arc<Endpoint>,
    topology: Arc<Topology>,
    state: watch::Sender<LinkState>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let mut opening = std::pin::pin!(self.open());
            let opened = tokio::select! {
                () = stop.cancelled() => {
                    // Left in the middle of it, lapin's thread would outlive the runtime and panic.
                    if let Ok(Ok(session)) = tokio::time::timeout(LEAVING, opening).await {
                        self.close(&session).await;
                    }
                    break;
                }
                opened = &mut opening => opened,
            };
            let reason = match opened {
                Ok(session) => self.stay(session).await,
                Err(error) => error,
            };
            if stop.is_cancelled() {
                break;
            }
            self.say_down(reason);
            tokio::select! {
                () = stop.cancelled() => {},
                () = tokio::time::sleep(pause()) => {},
            }
        }
        self.state.send_replace(LinkState::Down(BusError::Closed));
    }

    /// Says that the connection is down, in the log only when that is news.
    fn say_down(&self, error: BusError) {
        let is_news = !matches!(&*self.state.borrow(), LinkState::Down(before) if *before == error);
        if is_news {
            tracing::warn!(purpose = self.purpose, broker = self.endpoint.place(), %error, "not connected to the broker; trying again");
        }
        self.state.send_replace(LinkState::Down(error));
    }

    async fn open(&self) -> Result<Session, BusError> {
        let tls = self
            .endpoint
            .tls_config()
            .await
            .map_err(|reason| BusError::Refused { reason })?;
        let place = self.endpoint.place();
        let name = match &self.endpoint.role {
            super::AmqpRole::Orchestrator => format!("longshore orchestrator ({})", self.purpose),
            super::AmqpRole::Node(node) => format!("longshore node {node} ({})", self.purpose),
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let stop = self.stop.clone();
        let runtime = lapin::runtime::default_runtime().map_err(|error| from_lapin(&error))?;
        // The socket has a limit of its own: lapin's thread would wait for the kernel's, minutes long.
        let connecting = Connection::connector(
            self.endpoint.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let socket = AMQPUriTcpExt::connect_with_config_async(&uri, tls.as_ref(), &runtime);
                let opened = tokio::time::timeout(STEP_TIMEOUT, stop.run_until_cancelled(socket));
                let no_longer_wanted = || Err(std::io::ErrorKind::Interrupted.into());
                let opened = match opened.await {
                    Ok(opened) => opened.unwrap_or_else(no_longer_wanted),
                    Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
                };
                Ok(opened?)
            },
            properties,
        );
        let connection = within(connecting)
            .await
            .map_err(|error| at_place(error, &place))?;
        let session = Session {
            connection: Arc::new(connection),
            lost: CancellationToken::new(),
        };
        self.topology.declare(&session).await?;
        Ok(session)
    }

    /// Announces the connection and waits until it is over; returns why.
    async fn stay(&self, session: Session) -> BusError {
        tracing::info!(
            purpose = self.purpose,
            broker = self.endpoint.place(),
            "connected to the broker"
        );
        let mut events = std::pin::pin!(session.connection.events_listener());
        self.state.send_replace(LinkState::Up(session.clone()));
        let mut look = tokio::time::interval(LOOK_EVERY);
        let reason = loop {
            tokio::select! {
                () = self.stop.cancelled() => break BusError::Closed,
                () = session.lost() => break BusError::Away { reason: "the connection stopped working".to_owned() },
                _ = look.tick() => if !session.connection.status().connected() {
                    break BusError::Away { reason: "the connection was lost".to_owned() };
                },
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(purpose = self.purpose, reason, "the broker takes no messages");
                        self.state.send_replace(LinkState::Blocked(session.clone(), reason));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(purpose = self.purpose, "the broker takes messages again");
                        self.state.send_replace(LinkState::Up(session.clone()));
                    }
                    // A channel that was closed is reported here as well and is its user's matter.
                    Some(Event::Error(error)) if !session.connection.status().connected() => break from_lapin(&error),
                    Some(_) => {}
                    None => break BusError::Away { reason: "the connection was lost".to_owned() },
                },
            }
        };
        session.abandon();
        self.close(&session).await;
        reason
    }

    /// Tells the broker, when it still listens, that the connection is over.
    async fn close(&self, session: &Session) {
        if !session.connection.status().connected() {
            return;
        }
        if let Err(error) = within(session.connection.close(200, "closed".into())).await {
            tracing::debug!(purpose = self.purpose, %error, "closing a connection");
        }
    }
}

/// Adds where we tried to connect to; the error itself knows only what went wrong.
fn at_place(error: BusError, place: &str) -> BusError {
    match error {
        BusError::Away { reason } => BusError::Away {
            reason: format!("{place}: {reason}"),
        },
        other => other,
    }
}
