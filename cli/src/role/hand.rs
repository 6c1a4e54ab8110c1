//! The hand: a node, whatever bus it has.

use super::Services;
use ::node::git::{BuiltinImages, FetchLimits};
use ::node::{BuildLimits, Node, NodeSettings};
use shared::bus::Bus;
use shared::git::FetchPolicy;
use shared::name::{LabelKey, LabelValue, NodeName};
use shared::source::ImageRef;
use shared::spec::ByteSize;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What an operator decides about a node.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct HandArgs {
    /// The container engine, such as unix:///var/run/docker.sock; found by Docker's rules when absent.
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
    /// The host or address by which the ports of this machine are reached.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    advertise: String,
    /// How many deployments are fetched, built and started at once; as many as processors when absent.
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,
    /// What the node says of itself, for selection; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = read_label, value_delimiter = ',')]
    labels: Vec<(LabelKey, LabelValue)>,
    /// Where the networks of deployments are cut from.
    #[arg(long, value_name = "NETWORK", default_value = "10.201.0.0/16", value_parser = read_network)]
    network_pool: (Ipv4Addr, u8),
    /// How long a fetch may take.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::duration)]
    fetch_timeout: Duration,
    /// How long a build may take.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = super::duration)]
    build_timeout: Duration,
    /// The memory that a build step may use.
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = ByteSize::parse)]
    build_memory: ByteSize,
    /// How long a container may take to end by itself when it is stopped.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = super::duration)]
    stop_grace: Duration,
    /// How long connections to a replaced revision may go on.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = super::duration)]
    drain: Duration,
    /// The base image of lang = "python3".
    #[arg(long, value_name = "IMAGE", default_value = "python:3-slim")]
    image_python3: ImageRef,
    /// The base image of lang = "node".
    #[arg(long, value_name = "IMAGE", default_value = "node:20-slim")]
    image_node: ImageRef,
    /// The base image of lang = "static".
    #[arg(long, value_name = "IMAGE", default_value = "busybox")]
    image_static: ImageRef,
}

fn read_label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("give it as KEY=VALUE, such as disk=ssd")?;
    let key = LabelKey::parse(key).map_err(|error| error.to_string())?;
    Ok((
        key,
        LabelValue::parse(value).map_err(|error| error.to_string())?,
    ))
}

fn read_network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let refused = || "give a network such as 10.201.0.0/16".to_owned();
    let (address, prefix) = text.split_once('/').ok_or_else(refused)?;
    Ok((
        address.parse().map_err(|_| refused())?,
        prefix.parse().map_err(|_| refused())?,
    ))
}

impl HandArgs {
    /// The node's settings.
    pub(crate) fn settings(
        self,
        name: NodeName,
        state_dir: PathBuf,
        fetch_policy: FetchPolicy,
    ) -> NodeSettings {
        let usual = NodeSettings::new(name, state_dir);
        NodeSettings {
            docker_host: self.docker_host,
            advertise: self.advertise,
            slots: self.slots.unwrap_or(usual.slots),
            labels: self.labels.into_iter().collect(),
            fetch_limits: FetchLimits {
                wall: self.fetch_timeout,
                ..FetchLimits::default()
            },
            fetch_policy,
            builtin_images: BuiltinImages {
                python3: self.image_python3,
                node: self.image_node,
                static_files: self.image_static,
            },
            build_limits: BuildLimits {
                time: self.build_timeout,
                memory: Some(self.build_memory),
            },
            network_pool: self.network_pool,
            stop_grace: self.stop_grace,
            drain: self.drain,
            ..usual
        }
    }
}

/// Starts a node and adds it to the services.
pub(crate) async fn start(
    services: &mut Services,
    settings: NodeSettings,
    bus: Arc<dyn Bus>,
) -> anyhow::Result<()> {
    let node = Node::start(settings, bus, services.stop()).await?;
    services.add("node", node.run());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_networks() {
        assert!(read_label("disk=ssd").is_ok());
        assert!(read_label("disk").is_err());
        assert!(read_label("longshore.x=y").is_err(), "reserved");
        assert_eq!(
            read_network("10.201.0.0/16"),
            Ok((Ipv4Addr::new(10, 201, 0, 0), 16))
        );
        for text in ["10.201.0.0", "10.201.0.0/x", "::/16"] {
            assert!(read_network(text).is_err(), "{text}");
        }
    }
}
