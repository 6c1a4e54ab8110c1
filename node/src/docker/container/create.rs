//! The one place where a container's configuration is made.
//!
//! Every field is set from a [`ContainerOrder`] or to a fixed value; the rest is left at the
//! engine's default, of which this module knows that it is safe (no host namespaces, no devices,
//! no binds, seccomp on).

use super::order::{ContainerOrder, HealthCommand, VolumeMount};
use crate::docker::labels;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, NetworkingConfig, PortBinding, PortMap, RestartPolicy,
    RestartPolicyNameEnum,
};
use std::collections::HashMap;
use std::time::Duration;

/// Processes and threads of a container that asks for no other number.
const PIDS: i64 = 512;

/// What of Docker's default set is taken away. The rest (such as CHOWN, SETUID, NET_BIND_SERVICE)
/// is what the start scripts of common images need to drop to a user of their own.
const CAPABILITIES_DROPPED: [&str; 4] = [
    // Raw sockets: forged packets to neighbours on the bridge.
    "NET_RAW",
    // Device nodes.
    "MKNOD",
    // Writing the kernel's audit log.
    "AUDIT_WRITE",
    // Giving files capabilities, which outlive the process.
    "SETFCAP",
];

/// The configuration of a container, on an engine with or without a first process of its own.
pub(super) fn body(order: &ContainerOrder, engine_has_init: bool) -> ContainerCreateBody {
    let ports: Vec<String> = order
        .ports
        .iter()
        .map(|port| format!("{}/tcp", port.container))
        .collect();
    ContainerCreateBody {
        image: Some(order.image.clone()),
        cmd: order.command.clone(),
        env: Some(
            order
                .env
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        labels: Some(all_labels(order)),
        healthcheck: order.health.as_ref().map(health_config),
        stop_timeout: Some(order.stop_grace.as_secs().try_into().unwrap_or(i64::MAX)),
        exposed_ports: (!ports.is_empty()).then_some(ports),
        host_config: Some(HostConfig {
            init: (order.init && engine_has_init).then_some(true),
            ..host_config(order)
        }),
        networking_config: Some(networking(order)),
        ..Default::default()
    }
}

/// The user's labels, then ours over them.
fn all_labels(order: &ContainerOrder) -> HashMap<String, String> {
    let theirs = order
        .labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    let allowed = theirs.filter(|(key, _)| !key.to_ascii_lowercase().starts_with(labels::RESERVED));
    let mut all: HashMap<String, String> = allowed.collect();
    all.extend(order.owner.to_labels());
    all
}

fn host_config(order: &ContainerOrder) -> HostConfig {
    let memory = order
        .resources
        .memory
        .map(|size| i64::try_from(size.0).unwrap_or(i64::MAX));
    HostConfig {
        memory,
        // The same number means no swap on top.
        memory_swap: memory,
        nano_cpus: order.resources.cpus.map(shared::spec::CpuCount::nanos),
        pids_limit: Some(order.resources.pids.map_or(PIDS, i64::from)),
        cap_drop: Some(CAPABILITIES_DROPPED.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        log_config: Some(log_config()),
        network_mode: Some(order.network.network.clone()),
        port_bindings: (!order.ports.is_empty()).then(|| port_bindings(order)),
        mounts: Some(order.volumes.iter().map(mount).collect()),
        // When the host runs out of memory, applications end before the engine and the node do.
        oom_score_adj: Some(500),
        ..Default::default()
    }
}

/// Three files of 10 MB: the engine's default never ends.
fn log_config() -> HostConfigLogConfig {
    let config = [("max-size", "10m"), ("max-file", "3")];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(
            config
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
    }
}

fn port_bindings(order: &ContainerOrder) -> PortMap {
    let binding = |host: u16| PortBinding {
        host_ip: Some("0.0.0.0".to_owned()),
        host_port: Some(host.to_string()),
    };
    order
        .ports
        .iter()
        .map(|port| {
            (
                format!("{}/tcp", port.container),
                Some(vec![binding(port.host)]),
            )
        })
        .collect()
}

/// A volume of the engine, never a path of the host.
fn mount(volume: &VolumeMount) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.volume.clone()),
        target: Some(volume.path.clone()),
        read_only: Some(volume.read_only),
        ..Default::default()
    }
}

fn networking(order: &ContainerOrder) -> NetworkingConfig {
    let place = &order.network;
    let endpoint = EndpointSettings {
        aliases: Some(vec![place.alias.to_string()]),
        ipam_config: place.address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    };
    NetworkingConfig {
        endpoints_config: Some(HashMap::from([(place.network.clone(), endpoint)])),
    }
}

fn health_config(health: &HealthCommand) -> HealthConfig {
    let mut test = vec!["CMD".to_owned()];
    test.extend(health.command.iter().cloned());
    HealthConfig {
        test: Some(test),
        interval: Some(nanos(health.interval)),
        timeout: Some(nanos(health.timeout)),
        retries: Some(i64::from(health.retries)),
        start_period: Some(nanos(health.start_period)),
        start_interval: None,
    }
}

/// The engine counts in nanoseconds, takes 0 for its own default and refuses less than a millisecond.
fn nanos(duration: Duration) -> i64 {
    if duration.is_zero() {
        return 0;
    }
    i64::try_from(duration.max(Duration::from_millis(1)).as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::order::{NetworkPlace, PublishedPort};
    use super::*;
    use crate::docker::labels::Owner;
    use shared::id::DeploymentId;
    use shared::name::{LabelKey, LabelValue, NodeName, ServiceName};
    use shared::spec::{ByteSize, Resources};

    fn order() -> ContainerOrder {
        ContainerOrder {
            name: "x".to_owned(),
            owner: Owner {
                deployment: DeploymentId::new(),
                service: ServiceName::app(),
                revision: 1,
                epoch: 1,
                node: NodeName::parse("n1").unwrap(),
                store: None,
            },
            image: "busybox".to_owned(),
            command: None,
            env: std::collections::BTreeMap::default(),
            labels: [(
                LabelKey::parse("class").unwrap(),
                LabelValue::parse("a").unwrap(),
            )]
            .into(),
            network: NetworkPlace {
                network: "n".to_owned(),
                alias: ServiceName::app(),
                address: None,
            },
            volumes: Vec::new(),
            resources: Resources {
                memory: Some(ByteSize(64 << 20)),
                ..Default::default()
            },
            health: None,
            ports: vec![PublishedPort {
                host: 3000,
                container: 80,
            }],
            init: true,
            stop_grace: Duration::from_secs(10),
        }
    }

    #[test]
    fn our_labels_stand_beside_the_users() {
        let order = order();
        let labels = body(&order, true).labels.unwrap();
        assert_eq!(labels.get("class").map(String::as_str), Some("a"));
        assert_eq!(Owner::from_labels(&labels), Some(order.owner));
    }

    #[test]
    fn nothing_of_the_host_is_ever_given() {
        let host = body(&order(), true).host_config.unwrap();
        assert_eq!(host.binds, None);
        assert_eq!(host.privileged, None);
        assert_eq!(
            (
                &host.pid_mode,
                &host.ipc_mode,
                &host.uts_mode,
                &host.userns_mode
            ),
            (&None, &None, &None, &None)
        );
        assert_eq!(
            (&host.devices, &host.cap_add, &host.volumes_from),
            (&None, &None, &None)
        );
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.network_mode.as_deref(), Some("n"));
        assert!(
            host.mounts
                .unwrap()
                .iter()
                .all(|mount| mount.typ == Some(MountType::VOLUME))
        );
        assert_eq!(
            (host.memory, host.memory_swap),
            (Some(64 << 20), Some(64 << 20))
        );
        assert_eq!(host.pids_limit, Some(PIDS));
    }

    #[test]
    fn a_first_process_is_asked_for_only_where_it_is_wanted_and_there() {
        let init = |wanted, there| {
            let order = ContainerOrder {
                init: wanted,
                ..order()
            };
            body(&order, there).host_config.unwrap().init
        };
        assert_eq!(init(true, true), Some(true));
        assert_eq!((init(true, false), init(false, true)), (None, None));
    }
}
