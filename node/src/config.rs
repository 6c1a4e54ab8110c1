//! What an operator decides about a node.

use crate::docker::Engine;
use crate::error::StartError;
use crate::git::{BuiltinImages, FetchLimits, FetchPolicy};
use shared::name::{LabelKey, LabelValue, NodeName};
use shared::spec::ByteSize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one node. [`NodeSettings::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its name: registers it, names its work queue and labels what it makes.
    pub name: NodeName,
    /// Where it keeps its journal, mirrors of repositories and files of actions. Only this process
    /// may use it.
    pub state_dir: PathBuf,
    /// The container engine, such as `unix:///var/run/docker.sock`; found by the usual rules when
    /// absent.
    pub docker_host: Option<String>,
    /// The host or address that its leased ports are reached by.
    pub advertise: String,
    /// Deployment actions at once.
    pub slots: u32,
    /// What it says of itself, for selection.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// How far a fetch may go.
    pub fetch_limits: FetchLimits,
    /// Where a fetch may go.
    pub fetch_policy: FetchPolicy,
    /// Base images of built-in Dockerfiles.
    pub builtin_images: BuiltinImages,
    /// How far a build may go.
    pub build_limits: BuildLimits,
    /// Where the networks of deployments are cut from, as `address/prefix`: a /28 each.
    pub network_pool: (Ipv4Addr, u8),
    /// How long a container may take to end by itself when it is stopped.
    pub stop_grace: Duration,
    /// How long connections to a replaced revision may go on.
    pub drain: Duration,
    /// This program, for its hidden subcommands `internal-fetch` and `forward`.
    pub child_executable: PathBuf,
}

/// How far a build may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildLimits {
    /// Its time.
    pub time: Duration,
    /// The memory of its steps, where the builder can limit it.
    pub memory: Option<ByteSize>,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30 * 60),
            memory: Some(ByteSize(2 << 30)),
        }
    }
}

impl NodeSettings {
    /// The defaults for a node of this name with its state in this directory.
    #[must_use]
    pub fn new(name: NodeName, state_dir: PathBuf) -> Self {
        Self {
            name,
            state_dir,
            docker_host: None,
            advertise: Ipv4Addr::LOCALHOST.to_string(),
            slots: cores(),
            labels: BTreeMap::new(),
            fetch_limits: FetchLimits::default(),
            fetch_policy: FetchPolicy::default(),
            builtin_images: BuiltinImages::default(),
            build_limits: BuildLimits::default(),
            network_pool: (Ipv4Addr::new(10, 201, 0, 0), 16),
            stop_grace: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            // Named by the running image, so that children are the same release also after the file
            // was replaced.
            child_executable: PathBuf::from("/proc/self/exe"),
        }
    }

    /// Looks for mistakes, all at once.
    ///
    /// # Errors
    /// [`StartError::Settings`] with every mistake.
    pub fn validate(&self) -> Result<(), StartError> {
        let (pool, prefix) = self.network_pool;
        let pool_is_aligned =
            prefix <= 32 && u32::from(pool).checked_shl(u32::from(prefix)).unwrap_or(0) == 0;
        // Makes nothing and reaches for nothing.
        let engine = self.docker_host.clone().map(|host| Engine::new(Some(host)));
        let engine_mistake = engine.and_then(Result::err).map(|error| error.to_string());
        let checks = [
            (
                self.state_dir.as_os_str().is_empty(),
                "the state directory must not be empty".to_owned(),
            ),
            (
                url::Host::parse(&self.advertise).is_err()
                    && self.advertise.parse::<std::net::IpAddr>().is_err(),
                format!(
                    "`{}` is not a host or address to advertise",
                    shared::name::shown(&self.advertise)
                ),
            ),
            (
                !(1..=1024).contains(&self.slots),
                format!("slots must be 1 to 1024, not {}", self.slots),
            ),
            (
                !(8..=28).contains(&prefix) || !pool_is_aligned,
                format!(
                    "the network pool {pool}/{prefix} must be a network with a prefix of 8 to 28, such as 10.201.0.0/16"
                ),
            ),
            (engine_mistake.is_some(), engine_mistake.unwrap_or_default()),
            (
                self.build_limits.time < Duration::from_secs(1),
                "the build time limit must be at least one second".to_owned(),
            ),
            (
                self.fetch_limits.wall < Duration::from_secs(1),
                "the fetch time limit must be at least one second".to_owned(),
            ),
            (
                self.stop_grace > HOUR,
                "the stop grace must be at most one hour".to_owned(),
            ),
            (
                self.drain > HOUR,
                "the drain time must be at most one hour".to_owned(),
            ),
        ];
        let mistakes: Vec<String> = checks
            .into_iter()
            .filter(|(wrong, _)| *wrong)
            .map(|(_, text)| text)
            .collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(StartError::Settings { mistakes })
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// How many processors this machine gives us.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NodeSettings {
        NodeSettings::new(NodeName::parse("n1").unwrap(), PathBuf::from("state"))
    }

    #[test]
    fn the_defaults_are_right() {
        assert!(settings().validate().is_ok());
        let mut named = settings();
        for advertise in ["node-1.example", "192.0.2.7", "2001:db8::1"] {
            named.advertise = advertise.to_owned();
            assert!(named.validate().is_ok(), "{advertise}");
        }
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let mut wrong = settings();
        wrong.slots = 0;
        wrong.advertise = "not a host".to_owned();
        wrong.network_pool = (Ipv4Addr::new(10, 201, 0, 1), 16);
        wrong.state_dir = PathBuf::new();
        let Err(StartError::Settings { mistakes }) = wrong.validate() else {
            panic!("it was taken")
        };
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }
}
