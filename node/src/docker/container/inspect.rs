//! How a container is, in the node's own words.

use crate::docker::error::shown;
use crate::docker::labels::Owner;
use bollard::models::{
    ContainerInspectResponse, ContainerState as ClientState, ContainerStateStatusEnum,
    HealthStatusEnum, PortMap,
};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// How a container is.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is; none when its labels are not all of our making.
    pub owner: Option<Owner>,
    /// The id of its image, `sha256:…`.
    pub image: String,
    /// Whether it runs.
    pub state: ContainerState,
    /// How it ended, when it ran before.
    pub exit_code: i64,
    /// Whether it was killed for its memory.
    pub oom_killed: bool,
    /// Why the engine could not start it.
    pub error: Option<String>,
    /// How often the engine restarted it by itself.
    pub restarts: u32,
    /// What its health check says, when it has one.
    pub health: Option<Health>,
    /// Its address on its deployment's network, also while it does not run.
    pub address: Option<Ipv4Addr>,
    /// Host ports that the engine publishes, by container port.
    pub ports: Vec<(u16, u16)>,
    /// All its labels.
    pub labels: HashMap<String, String>,
    /// Its first process, on the engine's own host.
    pub pid: Option<u32>,
    /// When it was last started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it last ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Running.
    Running,
    /// Ended, and about to be started again by the engine.
    Restarting,
    /// Frozen by somebody.
    Paused,
    /// Ended.
    Exited,
    /// Being removed, or broken.
    Gone,
}

/// What a container's health check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not decided yet.
    Starting,
    /// It passes.
    Healthy,
    /// It failed as often in a row as it may.
    Unhealthy {
        /// How the last run ended and what it printed.
        output: String,
    },
}

/// From what the engine says.
pub(super) fn read(container: ContainerInspectResponse) -> Container {
    let labels = container
        .config
        .and_then(|config| config.labels)
        .unwrap_or_default();
    let state = container.state.unwrap_or_default();
    let settings = container.network_settings.unwrap_or_default();
    let endpoints = settings.networks.unwrap_or_default();
    let address = endpoints.into_values().find_map(|endpoint| {
        let now = endpoint.ip_address.and_then(|address| address.parse().ok());
        now.or_else(|| endpoint.ipam_config?.ipv4_address?.parse().ok())
    });
    Container {
        id: container.id.unwrap_or_default(),
        name: container
            .name
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned(),
        owner: Owner::from_labels(&labels),
        image: container.image.unwrap_or_default(),
        exit_code: state.exit_code.unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        error: state
            .error
            .as_deref()
            .filter(|error| !error.is_empty())
            .map(shown),
        restarts: container
            .restart_count
            .and_then(|count| count.try_into().ok())
            .unwrap_or(0),
        address,
        ports: read_ports(settings.ports.unwrap_or_default()),
        labels,
        pid: state
            .pid
            .and_then(|pid| pid.try_into().ok())
            .filter(|pid| *pid > 0),
        started_at: state.started_at.as_deref().and_then(time),
        finished_at: state.finished_at.as_deref().and_then(time),
        health: health(&state),
        state: state.status.map_or(ContainerState::Gone, read_state),
    }
}

fn read_state(status: ContainerStateStatusEnum) -> ContainerState {
    match status {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => {
            ContainerState::Running
        }
        ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
        ContainerStateStatusEnum::RESTARTING => ContainerState::Restarting,
        ContainerStateStatusEnum::EXITED => ContainerState::Exited,
        ContainerStateStatusEnum::REMOVING
        | ContainerStateStatusEnum::DEAD
        | ContainerStateStatusEnum::EMPTY => ContainerState::Gone,
    }
}

fn health(state: &ClientState) -> Option<Health> {
    let health = state.health.as_ref()?;
    match health.status? {
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => {
            let last = health.log.as_ref().and_then(|log| log.last());
            let output = last.map(|run| {
                let printed = run.output.as_deref().unwrap_or_default().trim();
                match run.exit_code {
                    Some(code) => shown(&format!("exit code {code} {printed}")),
                    None => shown(printed),
                }
            });
            Some(Health::Unhealthy {
                output: output.unwrap_or_default(),
            })
        }
    }
}

fn read_ports(ports: PortMap) -> Vec<(u16, u16)> {
    let mut published: Vec<(u16, u16)> = ports
        .into_iter()
        .filter_map(|(port, bindings)| {
            let container = port.strip_suffix("/tcp")?.parse().ok()?;
            let host = bindings?
                .into_iter()
                .find_map(|binding| binding.host_port?.parse().ok())?;
            Some((container, host))
        })
        .collect();
    published.sort_unstable();
    published
}

/// The engine writes the year 1 for what has not happened.
fn time(text: &str) -> Option<DateTime<Utc>> {
    text.parse::<DateTime<Utc>>()
        .ok()
        .filter(|time| time.timestamp() > 0)
}
