//! What the engine is and has.

use super::client::{Engine, QUICK};
use super::error::EngineError;
use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};
use ipnet::Ipv4Net;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What the engine is and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version.
    pub version: String,
    /// The version of its API.
    pub api_version: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Where it keeps images and containers, on its own host.
    pub root_dir: PathBuf,
    /// What is free there in bytes, when this node can look.
    pub root_free_bytes: Option<u64>,
    /// How it confines containers, such as `name=seccomp,profile=default`.
    pub security: Vec<String>,
    /// Whether builds go through BuildKit.
    pub buildkit: bool,
    /// How it makes control groups.
    pub cgroup_driver: CgroupDriver,
    /// Whether it can put a first process of its own before a container's.
    pub init: bool,
    /// Whether containers' own addresses can be dialled from this host. If not, ports have to be
    /// published by the engine.
    pub containers_reachable: bool,
}

/// How an engine makes control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// By itself, as directories.
    Cgroupfs,
    /// Through systemd.
    Systemd,
    /// Not at all, or in a way unknown here.
    Other,
}

impl Engine {
    /// What the engine is and has.
    ///
    /// # Errors
    /// [`EngineError`], mostly [`EngineError::Unavailable`].
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        const DOING: &str = "asking what the engine is";
        let info = self
            .call(DOING, QUICK, |docker| async move { docker.info().await })
            .await?;
        let api_version = self.docker(DOING).await?.client_version().to_string();
        let mut info = read_info(info, api_version);
        info.containers_reachable = self.containers_reachable().await?;
        if self.is_local() {
            info.root_free_bytes = free_bytes(&info.root_dir);
        }
        self.remember(info.clone()).await;
        Ok(info)
    }

    /// What the engine is, as of the first time it was asked since it was last away. For what does
    /// not change while it runs.
    pub(super) async fn known_info(&self) -> Result<EngineInfo, EngineError> {
        match self.remembered().await {
            Some(info) => Ok(info),
            None => self.info().await,
        }
    }

    /// Whether the engine answers at all.
    ///
    /// # Errors
    /// [`EngineError`], mostly [`EngineError::Unavailable`].
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call(
            "asking whether the engine answers",
            QUICK,
            |docker| async move { docker.ping().await },
        )
        .await?;
        Ok(())
    }

    /// The engine's bridges are on this host when the gateway of its default bridge is an address
    /// that can be bound here.
    async fn containers_reachable(&self) -> Result<bool, EngineError> {
        const DOING: &str = "looking at the engine's default network";
        let inspected = self
            .call(DOING, QUICK, |docker| async move {
                docker.inspect_network("bridge", None).await
            })
            .await;
        let bridge = match inspected {
            Ok(bridge) => bridge,
            // An engine set up without one: its containers cannot be judged, so ports are published.
            Err(EngineError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let configs = bridge.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        // The engine names the gateway only when it was told which; else it is the first address.
        let gateway = configs.into_iter().find_map(|config| {
            let named = config.gateway.and_then(|gateway| gateway.parse().ok());
            let first = || config.subnet?.parse::<Ipv4Net>().ok()?.hosts().next();
            named.or_else(first)
        });
        let Some(gateway) = gateway else {
            return Ok(false);
        };
        match tokio::net::TcpListener::bind((IpAddr::from(gateway), 0)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => Ok(false),
            // No descriptor is free, for instance: that says nothing of where the engine is.
            Err(error) => Err(EngineError::Unavailable {
                doing: DOING,
                detail: format!("its gateway {gateway} cannot be tried: {error}"),
            }),
        }
    }
}

fn read_info(info: SystemInfo, api_version: String) -> EngineInfo {
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        cpus: info
            .ncpu
            .and_then(|count| count.try_into().ok())
            .unwrap_or(0),
        memory_bytes: info
            .mem_total
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or(0),
        root_dir: info.docker_root_dir.unwrap_or_default().into(),
        root_free_bytes: None,
        security: info.security_options.unwrap_or_default(),
        // BuildKit came with API 1.39 (engine 18.09), and only for Linux containers.
        buildkit: info.os_type.as_deref() == Some("linux") && at_least(&api_version, (1, 39)),
        cgroup_driver: match info.cgroup_driver {
            Some(SystemInfoCgroupDriverEnum::CGROUPFS) => CgroupDriver::Cgroupfs,
            Some(SystemInfoCgroupDriverEnum::SYSTEMD) => CgroupDriver::Systemd,
            _ => CgroupDriver::Other,
        },
        init: info.init_binary.is_some_and(|name| !name.is_empty()),
        containers_reachable: false,
        api_version,
    }
}

/// What a user without rights may still write there.
fn free_bytes(dir: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(dir).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let parse = |(major, minor): (&str, &str)| Some((major.parse().ok()?, minor.parse().ok()?));
    version
        .split_once('.')
        .and_then(parse)
        .is_some_and(|found: (u32, u32)| found >= wanted)
}
