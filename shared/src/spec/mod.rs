//! What to run: the one model that every kind of source resolves into.
//!
//! A Config.toml, an image, and later a compose file or a deployment file, all become a
//! [`DeploymentSpec`], which is vetted once and run by one runtime.

pub mod config_toml;
mod units;

pub use units::{ByteSize, CpuCount, UnitError, parse_duration};

use crate::name::{EnvKey, ServiceName};
use crate::source::{ImageRef, RepoPath};
use crate::status::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything needed to run one revision of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// Its services, at least one, each with a name of its own.
    pub services: Vec<ServiceSpec>,
    /// How it replaces the revision before it.
    pub method: Method,
    /// What the source says of itself, for people.
    #[serde(default)]
    pub about: About,
}

impl DeploymentSpec {
    /// Whether it keeps data on its node.
    #[must_use]
    pub fn has_volumes(&self) -> bool {
        self.services
            .iter()
            .any(|service| !service.volumes.is_empty())
    }
}

/// What a source says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The application's own name.
    pub name: Option<String>,
    /// Its own version.
    pub version: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
}

/// One or more containers of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name within the deployment, also its alias on the deployment's network.
    pub name: ServiceName,
    /// Where its image comes from.
    pub image: ImageSpec,
    /// Run instead of the image's own command; an argument vector, never a shell string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Plain values for its environment.
    #[serde(default)]
    pub env: BTreeMap<EnvKey, String>,
    /// The ports that it listens on in its container; the first is the one that is verified and
    /// that the deployment's URL names. Each gets a leased port.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Named volumes.
    #[serde(default)]
    pub volumes: Vec<VolumeSpec>,
    /// When it counts as healthy.
    pub health: HealthSpec,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// Where an ingress serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Where a service's image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ImageSpec {
    /// Built from the fetched tree.
    Build(BuildSpec),
    /// Pulled from a registry.
    Pull {
        /// The image.
        image: ImageRef,
    },
}

/// How an image is built from the fetched tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
// Not `type` again: its fields stand beside those of [`ImageSpec`].
#[serde(tag = "by", rename_all = "snake_case")]
pub enum BuildSpec {
    /// By a Dockerfile of the repository, relative to the build context.
    Dockerfile {
        /// Where it lies.
        path: RepoPath,
    },
    /// By a built-in Dockerfile.
    BuiltIn {
        /// Which one.
        lang: Lang,
        /// The command that starts the application; the language's usual one when absent.
        run: Option<String>,
    },
}

/// A language with a built-in Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// Python 3; `python` and `python3` in a configuration.
    Python3,
    /// Node.js.
    Node,
    /// Files served as they are.
    Static,
}

/// A named volume of a deployment, kept over revisions until it is asked to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name within the deployment.
    pub name: ServiceName,
    /// The absolute path in the container.
    pub path: String,
    /// Whether the container may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// When a service counts as healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// What is asked.
    pub check: HealthCheck,
    /// The time between two checks in the steady state. Before the first success the node asks
    /// much more often.
    #[serde(with = "units::millis")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(with = "units::millis")]
    pub timeout: Duration,
    /// How many checks in a row must fail before the service is unhealthy.
    pub retries: u32,
    /// How long after its start failures do not count.
    #[serde(with = "units::millis")]
    pub start_period: Duration,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            check: HealthCheck::Default,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            retries: 3,
            start_period: Duration::from_secs(30),
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HealthCheck {
    /// The image's own HEALTHCHECK when it has one, else a TCP connection to the first port, else
    /// that the container keeps running.
    Default,
    /// A TCP connection to the first port.
    Tcp,
    /// An HTTP GET on the first port; any 2xx or 3xx is healthy.
    Http {
        /// The path, starting with `/`.
        path: String,
    },
    /// A command run in the container (as a HEALTHCHECK of the engine); 0 is healthy.
    Command {
        /// The argument vector.
        command: Vec<String>,
    },
}

/// What a service may use. Absent means the node's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory; the container is killed beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processors, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuCount>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}
