//! What a container can be asked to be: an allow-list. What stands here has been parsed or vetted;
//! what cannot be said here cannot be had.

use crate::docker::labels::Owner;
use shared::name::{EnvKey, LabelKey, LabelValue, ServiceName};
use shared::spec::Resources;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A container to be created.
#[derive(Clone, Debug)]
pub struct ContainerOrder {
    /// Its name, from [`crate::docker::container_name`].
    pub name: String,
    /// Whose it is; becomes labels, over whatever the image or the user says.
    pub owner: Owner,
    /// The image, by id or tag.
    pub image: String,
    /// Run instead of the image's own command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<EnvKey, String>,
    /// The user's labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Where it is on the network.
    pub network: NetworkPlace,
    /// Named volumes to mount.
    pub volumes: Vec<VolumeMount>,
    /// What it may use.
    pub resources: Resources,
    /// A health check that the engine runs inside it, over the image's own.
    pub health: Option<HealthCommand>,
    /// Ports that the engine publishes. Only where containers' own addresses cannot be dialled.
    pub ports: Vec<PublishedPort>,
    /// Whether the engine's own first process runs before the command, where it has one: it passes
    /// signals on, which a program ignores as the first process unless it was written for that, and
    /// collects what other processes leave. Images with a first process of their own refuse to run
    /// behind another.
    pub init: bool,
    /// How long it is given to end when the engine itself stops it.
    pub stop_grace: Duration,
}

/// A container's place on its deployment's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlace {
    /// The network's name.
    pub network: String,
    /// The name that other services of the deployment reach it by.
    pub alias: ServiceName,
    /// Its own address, kept over restarts.
    pub address: Option<Ipv4Addr>,
}

/// A named volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// The engine's name of it, from [`crate::docker::volume_name`].
    pub volume: String,
    /// The absolute path in the container.
    pub path: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A command that the engine runs in the container to see whether it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCommand {
    /// The argument vector; no shell reads it.
    pub command: Vec<String>,
    /// The time between two runs.
    pub interval: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// How many must fail in a row.
    pub retries: u32,
    /// How long after the start failures do not count.
    pub start_period: Duration,
}

/// A container port that the engine publishes on all addresses of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// The port on the host.
    pub host: u16,
    /// The port in the container.
    pub container: u16,
}
