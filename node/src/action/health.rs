//! Whether a service is healthy: asked in the same way before the switch and for as long as it
//! runs.

use crate::core::Core;
use crate::runtime::{Endpoint, EngineEvent, EngineHealth, Probe};
use shared::message::LeasedPort;
use shared::spec::{HealthCheck, ServiceSpec};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many of a container's last lines are shown when it fails.
pub(crate) const LAST_LINES: usize = 50;

/// The time between two looks at a container whose events did not arrive.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// By the engine, inside the container.
    Engine,
    /// By a connection to its first port.
    Tcp(Endpoint),
    /// By an HTTP request to its first port.
    Http(Endpoint, String),
    /// Not at all: it has to keep running.
    KeepsRunning,
}

/// How to ask a service, by its spec and its image.
pub(crate) fn question(
    service: &ServiceSpec,
    image_has_health_check: bool,
    address: Option<Ipv4Addr>,
    ports: &[LeasedPort],
) -> Question {
    let endpoint = service
        .ports
        .first()
        .and_then(|port| endpoint(service, *port, address, ports));
    match (&service.health.check, endpoint) {
        (HealthCheck::Command { .. }, _) => Question::Engine,
        (HealthCheck::Default, _) if image_has_health_check => Question::Engine,
        (HealthCheck::Http { path }, Some(endpoint)) => Question::Http(endpoint, path.clone()),
        (HealthCheck::Default | HealthCheck::Tcp, Some(endpoint)) => Question::Tcp(endpoint),
        (_, None) => Question::KeepsRunning,
    }
}

fn endpoint(
    service: &ServiceSpec,
    port: u16,
    address: Option<Ipv4Addr>,
    ports: &[LeasedPort],
) -> Option<Endpoint> {
    if let Some(address) = address {
        return Some(Endpoint::Container { address, port });
    }
    let lease = ports
        .iter()
        .find(|lease| lease.service == service.name && lease.container_port == port)?;
    Some(Endpoint::Published { port: lease.port })
}

/// What came of asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is healthy.
    Healthy,
    /// It is not, and why.
    Unhealthy(String),
    /// It cannot be known yet.
    NotYet(String),
}

/// Asks once.
pub(crate) async fn ask(
    core: &Core,
    container: &str,
    question: &Question,
    timeout: Duration,
) -> Answer {
    let (endpoint, probe) = match question {
        Question::Engine => return ask_engine(core, container).await,
        Question::KeepsRunning => return Answer::Healthy,
        Question::Tcp(endpoint) => (endpoint, Probe::Tcp),
        Question::Http(endpoint, path) => (endpoint, Probe::Http { path }),
    };
    match core.runtime.probe(endpoint, probe, timeout).await {
        Ok(()) => Answer::Healthy,
        Err(reason) => Answer::Unhealthy(reason),
    }
}

async fn ask_engine(core: &Core, container: &str) -> Answer {
    match core.runtime.inspect(container).await {
        Ok(Some(state)) => match state.health {
            Some(EngineHealth::Healthy) => Answer::Healthy,
            Some(EngineHealth::Unhealthy { last_run }) if last_run.is_empty() => {
                Answer::Unhealthy("its health check fails".to_owned())
            }
            Some(EngineHealth::Unhealthy { last_run }) => {
                Answer::Unhealthy(format!("its health check fails: {last_run}"))
            }
            Some(EngineHealth::Starting) => {
                Answer::NotYet("its health check has not passed yet".to_owned())
            }
            None => Answer::NotYet("its health check has not started yet".to_owned()),
        },
        Ok(None) => Answer::Unhealthy("its container is gone".to_owned()),
        Err(error) => Answer::NotYet(error.to_string()),
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// How its process ended; none when the container is gone.
    pub(crate) exit_code: Option<i64>,
    /// It was ended for using too much memory.
    pub(crate) out_of_memory: bool,
}

impl Death {
    /// As the end of a sentence about the container.
    pub(crate) fn in_words(&self) -> String {
        match (self.exit_code, self.out_of_memory) {
            (None, _) => "is gone".to_owned(),
            (Some(code), true) => {
                format!("was ended with code {code} for using more memory than it may")
            }
            (Some(code), false) => format!("exited with code {code}"),
        }
    }
}

/// Waits until a container ends, or is found to have been started again more than `restarts` times.
/// `events` must have been subscribed to before it was started.
pub(crate) async fn death(
    core: &Core,
    container: &str,
    restarts: u32,
    mut events: broadcast::Receiver<EngineEvent>,
) -> Death {
    loop {
        let event = tokio::time::timeout(LOOK_AGAIN, events.recv()).await;
        let told = match event {
            Ok(Ok(EngineEvent::Died {
                container: who,
                exit_code,
            })) if who == container => Some(exit_code),
            Ok(Ok(EngineEvent::Died { .. } | EngineEvent::Changed { .. })) => continue,
            // Something was missed, or nothing was said for a while: look.
            Ok(Ok(EngineEvent::Missed) | Err(RecvError::Lagged(_))) | Err(_) => None,
            Ok(Err(RecvError::Closed)) => {
                tokio::time::sleep(LOOK_AGAIN).await;
                None
            }
        };
        match core.runtime.inspect(container).await {
            // What was told is about its life before this one: whoever restarts it stops it first.
            Ok(Some(state)) if state.running && !state.restarting && state.restarts <= restarts => {
            }
            Ok(Some(state)) => {
                return Death {
                    exit_code: Some(told.unwrap_or(state.exit_code)),
                    out_of_memory: state.out_of_memory,
                };
            }
            Ok(None) => {
                return Death {
                    exit_code: told,
                    out_of_memory: false,
                };
            }
            // The engine is away: it is asked again.
            Err(_) => {}
        }
    }
}

/// A container's last lines as the end of a detail.
pub(crate) async fn last_lines(core: &Core, container: &str) -> String {
    match core.runtime.last_lines(container, LAST_LINES).await {
        Ok(lines) if lines.is_empty() => "; it printed nothing".to_owned(),
        Ok(lines) => format!("; its last lines:\n{}", lines.join("\n")),
        Err(error) => format!("; what it printed cannot be read: {error}"),
    }
}
