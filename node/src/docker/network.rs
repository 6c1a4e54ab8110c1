//! One network for each deployment, with a subnet that the node chooses.
//!
//! The engine keeps deployments' networks apart from each other. The node chooses the subnets
//! itself, for two reasons: the engine's own pools end after some thirty networks, and a container
//! that has an address of its own keeps it over restarts, which the port forwarder relies on.

use super::client::{Engine, QUICK, SLOW};
use super::error::EngineError;
use super::labels;
use bollard::models::{
    ContainerSummary, Ipam, IpamConfig, Network as ClientNetwork, NetworkCreateRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use ipnet::Ipv4Net;
use shared::id::DeploymentId;
use shared::name::NodeName;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// The size of a deployment's subnet: 13 containers beside the gateway.
const PREFIX: u8 = 28;

/// How many subnets are tried when the engine finds that a chosen one overlaps with something that
/// its list does not show.
const ATTEMPTS: usize = 64;

/// Which network is wanted.
#[derive(Clone, Debug)]
pub struct NetworkOrder {
    /// Whose it is.
    pub deployment: DeploymentId,
    /// The node that makes it.
    pub node: NodeName,
    /// Where subnets are taken from, such as 10.201.0.0/16.
    pub pool: Ipv4Net,
}

/// A deployment's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The host's own address on it.
    pub gateway: Ipv4Addr,
}

impl Engine {
    /// The network of a deployment on this node, made when it is not there.
    ///
    /// # Errors
    /// [`EngineError::Exhausted`] when the pool has no free subnet left.
    pub async fn network_ensure(&self, order: &NetworkOrder) -> Result<Network, EngineError> {
        const DOING: &str = "making a network";
        let _choosing = self.networks().lock().await;
        let existing = self.list_networks(None).await?;
        let ours = |network: &&ClientNetwork| is_of(network, order.deployment, &order.node);
        // There may be two: one that the engine was still making for a process that was killed meanwhile
        // shows up late, and was begun before the one that is in use.
        let newest = existing
            .iter()
            .filter(ours)
            .max_by_key(|network| network.created);
        if let Some(network) = newest.and_then(read_network) {
            return Ok(network);
        }
        let taken: Vec<Ipv4Net> = existing.iter().flat_map(subnets).collect();
        for subnet in free_subnets(order.pool, &taken).take(ATTEMPTS) {
            let Some(gateway) = subnet.hosts().next() else {
                continue;
            };
            let name = name(order, subnet);
            let request = create_request(&name, order, subnet, gateway);
            let created = self
                .call(DOING, SLOW, |docker| async move {
                    docker.create_network(request).await
                })
                .await;
            match created {
                Ok(created) => {
                    return Ok(Network {
                        id: created.id,
                        name,
                        subnet,
                        gateway,
                    });
                }
                Err(error) if is_overlap(&error) => {
                    tracing::debug!(%subnet, "a subnet is taken: trying the next")
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::Exhausted {
            doing: DOING,
            what: format!("the address pool {}", order.pool),
        })
    }

    /// An address of the network that no container has, running or not: always the lowest, so that
    /// the same containers in the same order get the same addresses.
    ///
    /// # Errors
    /// [`EngineError::Exhausted`] when all are taken.
    pub async fn free_address(&self, network: &Network) -> Result<Ipv4Addr, EngineError> {
        const DOING: &str = "choosing an address";
        let filters = HashMap::from([("network".to_owned(), vec![network.name.clone()])]);
        let options = ListContainersOptions {
            all: true,
            filters: Some(filters),
            ..Default::default()
        };
        let containers = self
            .call(DOING, QUICK, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        let taken: HashSet<Ipv4Addr> = containers.iter().flat_map(addresses).collect();
        let mut free = network
            .subnet
            .hosts()
            .filter(|address| *address != network.gateway && !taken.contains(address));
        free.next().ok_or_else(|| EngineError::Exhausted {
            doing: DOING,
            what: format!("the subnet {}", network.subnet),
        })
    }

    /// Removes the networks of a deployment on this node, detaching what is still on them. Returns
    /// how many there were.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn network_remove(
        &self,
        deployment: DeploymentId,
        node: &NodeName,
    ) -> Result<u32, EngineError> {
        let filter = labels::filter([
            (labels::DEPLOYMENT, &deployment.to_string()),
            (labels::NODE, node.as_str()),
        ]);
        let mut removed = 0;
        for network in self.list_networks(Some(filter)).await? {
            if let Some(id) = network.id {
                removed += u32::from(self.remove_network(&id).await?);
            }
        }
        Ok(removed)
    }

    /// As [`Self::network_remove`], leaving alone what a container that runs is on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn network_remove_unused(
        &self,
        deployment: DeploymentId,
        node: &NodeName,
    ) -> Result<(), EngineError> {
        let filter = labels::filter([
            (labels::DEPLOYMENT, &deployment.to_string()),
            (labels::NODE, node.as_str()),
        ]);
        let found = self.list_networks(Some(filter)).await?;
        for id in found.into_iter().filter_map(|network| network.id) {
            match self.try_remove_network(&id).await {
                Ok(_)
                | Err(EngineError::Conflict { .. } | EngineError::Refused { status: 403, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn remove_network(&self, id: &str) -> Result<bool, EngineError> {
        match self.try_remove_network(id).await {
            Err(EngineError::Conflict { .. } | EngineError::Refused { status: 403, .. }) => {
                self.disconnect_all(id).await?;
                self.try_remove_network(id).await
            }
            result => result,
        }
    }

    async fn try_remove_network(&self, id: &str) -> Result<bool, EngineError> {
        let removed = self
            .call("removing a network", SLOW, |docker| async move {
                docker.remove_network(id).await
            })
            .await;
        match removed {
            Ok(()) => Ok(true),
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn disconnect_all(&self, id: &str) -> Result<(), EngineError> {
        const DOING: &str = "detaching what is on a network";
        let network = self
            .call(DOING, QUICK, |docker| async move {
                docker.inspect_network(id, None).await
            })
            .await?;
        for container in network.containers.unwrap_or_default().into_keys() {
            let request = NetworkDisconnectRequest {
                container,
                force: Some(true),
            };
            let done = self
                .call(DOING, SLOW, |docker| async move {
                    docker.disconnect_network(id, request).await
                })
                .await;
            match done {
                Ok(()) | Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn list_networks(
        &self,
        filters: Option<HashMap<String, Vec<String>>>,
    ) -> Result<Vec<ClientNetwork>, EngineError> {
        let options = ListNetworksOptions { filters };
        self.call("listing networks", QUICK, |docker| async move {
            docker.list_networks(Some(options)).await
        })
        .await
    }
}

/// Of this deployment and this subnet: the engine takes a name twice, and then starts nothing on
/// either network, but a subnet only once. So a network that shows up late, or another node's on the
/// same engine, has a name of its own.
fn name(order: &NetworkOrder, subnet: Ipv4Net) -> String {
    format!(
        "{}-{}",
        labels::network_name(order.deployment),
        subnet.addr()
    )
}

fn create_request(
    name: &str,
    order: &NetworkOrder,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
) -> NetworkCreateRequest {
    let config = IpamConfig {
        subnet: Some(subnet.to_string()),
        gateway: Some(gateway.to_string()),
        ..Default::default()
    };
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(vec![config]),
            ..Default::default()
        }),
        labels: Some(labels::of_deployment(order.deployment, &order.node)),
        ..Default::default()
    }
}

fn is_of(network: &ClientNetwork, deployment: DeploymentId, node: &NodeName) -> bool {
    let label = |key: &str| network.labels.as_ref().and_then(|labels| labels.get(key));
    label(labels::DEPLOYMENT) == Some(&deployment.to_string())
        && label(labels::NODE).map(String::as_str) == Some(node.as_str())
}

fn read_network(network: &ClientNetwork) -> Option<Network> {
    let configs = network.ipam.as_ref()?.config.as_ref()?;
    let (subnet, gateway) = configs.iter().find_map(|config| {
        let subnet: Ipv4Net = config.subnet.as_ref()?.parse().ok()?;
        // The engine may write the gateway with its prefix.
        let gateway = config.gateway.as_ref()?.split('/').next()?.parse().ok()?;
        Some((subnet, gateway))
    })?;
    Some(Network {
        id: network.id.clone()?,
        name: network.name.clone()?,
        subnet,
        gateway,
    })
}

fn subnets(network: &ClientNetwork) -> impl Iterator<Item = Ipv4Net> + '_ {
    let configs = network
        .ipam
        .as_ref()
        .and_then(|ipam| ipam.config.as_deref())
        .unwrap_or_default();
    configs
        .iter()
        .filter_map(|config| config.subnet.as_ref()?.parse().ok())
}

/// The subnets of the pool that overlap with none that is taken, lowest first.
fn free_subnets<'a>(pool: Ipv4Net, taken: &'a [Ipv4Net]) -> impl Iterator<Item = Ipv4Net> + 'a {
    let overlaps = |a: Ipv4Net, b: Ipv4Net| a.contains(&b) || b.contains(&a);
    // A pool smaller than a subnet is one subnet.
    let parts = pool
        .subnets(PREFIX.max(pool.prefix_len()))
        .into_iter()
        .flatten();
    parts.filter(move |part| !taken.iter().any(|other| overlaps(*part, *other)))
}

fn is_overlap(error: &EngineError) -> bool {
    match error {
        EngineError::Refused { message, .. } | EngineError::Conflict { message, .. } => {
            message.contains("overlap") || message.contains("conflicts with network")
        }
        _ => false,
    }
}

/// The addresses that a container has or will have when it is started again.
fn addresses(container: &ContainerSummary) -> Vec<Ipv4Addr> {
    let networks = container
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    let endpoints = networks.into_iter().flat_map(HashMap::values);
    endpoints
        .flat_map(|endpoint| {
            let asked = endpoint
                .ipam_config
                .as_ref()
                .and_then(|config| config.ipv4_address.as_ref());
            [asked, endpoint.ip_address.as_ref()]
                .into_iter()
                .flatten()
                .filter_map(|text| text.parse().ok())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn two_networks_never_have_one_name() {
        let order = NetworkOrder {
            deployment: DeploymentId::new(),
            node: NodeName::parse("n1").unwrap(),
            pool: net("10.201.0.0/16"),
        };
        let named = |subnet| name(&order, net(subnet));
        assert!(named("10.201.0.16/28").ends_with("-10.201.0.16"));
        assert_ne!(named("10.201.0.16/28"), named("10.201.0.32/28"));
    }

    #[test]
    fn the_lowest_free_subnet_comes_first() {
        let pool = net("10.201.0.0/24");
        let taken = [
            net("10.201.0.0/28"),
            net("10.201.0.32/27"),
            net("172.17.0.0/16"),
        ];
        let free: Vec<_> = free_subnets(pool, &taken).take(2).collect();
        assert_eq!(free, [net("10.201.0.16/28"), net("10.201.0.64/28")]);
    }

    #[test]
    fn a_pool_under_a_larger_network_has_nothing_free() {
        assert_eq!(
            free_subnets(net("10.201.0.0/24"), &[net("10.0.0.0/8")]).count(),
            0
        );
        assert_eq!(
            free_subnets(net("10.201.0.0/30"), &[]).collect::<Vec<_>>(),
            [net("10.201.0.0/30")]
        );
    }

    proptest! {
        #[test]
        fn chosen_subnets_never_overlap(others in proptest::collection::vec((0u32..4096, 20u8..32), 0..20)) {
            let start = u32::from(Ipv4Addr::new(10, 201, 0, 0));
            let other = |(offset, prefix)| Ipv4Net::new(Ipv4Addr::from(start + offset), prefix).unwrap().trunc();
            let mut taken: Vec<Ipv4Net> = others.into_iter().map(other).collect();
            for _ in 0..10 {
                let Some(next) = free_subnets(net("10.201.0.0/20"), &taken).next() else { break };
                prop_assert!(taken.iter().all(|other: &Ipv4Net| !other.contains(&next) && !next.contains(other)));
                taken.push(next);
            }
        }
    }
}
