//! Which host ports a revision gets: the ones that its deployment holds, else fresh ones that are
//! free on this host.

use super::Action;
use crate::runtime::{Exposure, Runtime, StepError};
use shared::message::{LeasedPort, PortOffer};
use shared::spec::DeploymentSpec;
use shared::status::FailureReason;
use std::collections::BTreeSet;

/// Chooses a host port for each port of each service, other than those that are `known_taken`.
pub(super) async fn choose(
    action: &Action,
    spec: &DeploymentSpec,
    offer: &PortOffer,
    known_taken: &[u16],
) -> Result<Vec<LeasedPort>, StepError> {
    let wanted: usize = spec
        .services
        .iter()
        .map(|service| service.ports.len())
        .sum();
    let offered = offer.held.len() + offer.fresh.len();
    if wanted > offered {
        let detail = format!(
            "{wanted} ports want to be reached and a host gives {offered} at most: name the one that the application listens on (`port`)"
        );
        return Err(StepError::failed(FailureReason::PortUnavailable, detail));
    }
    let runtime = &*action.core.runtime;
    let current = action.record().and_then(|record| record.current);
    let of_current = current
        .iter()
        .flat_map(|running| &running.ports)
        .map(|lease| lease.port);
    let mut chooser = Chooser {
        runtime,
        ours: BTreeSet::new(),
        taken: known_taken.iter().copied().collect(),
        seen_bound: known_taken.to_vec(),
    };
    match runtime.exposure() {
        // Ports that lead to a revision of this deployment now are bound by us: no obstacle.
        Exposure::Forwarded => {
            chooser.ours = current
                .iter()
                .flat_map(super::routes::of)
                .map(|route| route.port)
                .collect();
        }
        // The engine holds them for the current revision until that is gone.
        Exposure::Published => chooser.taken.extend(of_current),
    }
    let mut leases = Vec::new();
    for service in &spec.services {
        for container_port in &service.ports {
            let is_held = |lease: &&LeasedPort| {
                lease.service == service.name && lease.container_port == *container_port
            };
            // All that the deployment holds is its own: the same port first, then fresh ones.
            let held = offer.held.iter().filter(is_held).map(|lease| lease.port);
            let port = chooser
                .first_free(held.chain(offer.fresh.iter().copied()))
                .await
                .ok_or_else(|| {
                    StepError::failed(
                        FailureReason::PortUnavailable,
                        chooser.complaint(&service.name, *container_port),
                    )
                })?;
            if offer
                .held
                .iter()
                .any(|lease| is_held(&lease) && lease.port != port)
            {
                action.log.system(format!(
                    "the port that {}:{container_port} had is taken by something else on this host; it gets {port}",
                    service.name
                ));
            }
            leases.push(LeasedPort {
                port,
                container_port: *container_port,
                service: service.name.clone(),
            });
        }
    }
    Ok(leases)
}

struct Chooser<'a> {
    runtime: &'a dyn Runtime,
    ours: BTreeSet<u16>,
    taken: BTreeSet<u16>,
    seen_bound: Vec<u16>,
}

impl Chooser<'_> {
    async fn first_free(&mut self, ports: impl Iterator<Item = u16> + Send) -> Option<u16> {
        for port in ports {
            if self.taken.contains(&port) {
                continue;
            }
            if self.ours.contains(&port) || self.runtime.port_is_free(port).await {
                self.taken.insert(port);
                return Some(port);
            }
            self.seen_bound.push(port);
        }
        None
    }

    fn complaint(&self, service: &shared::name::ServiceName, container_port: u16) -> String {
        if self.seen_bound.is_empty() {
            return format!("no host port was offered for {service}:{container_port}");
        }
        let bound: Vec<String> = self.seen_bound.iter().map(ToString::to_string).collect();
        format!(
            "no host port for {service}:{container_port}: every port that was offered is taken by something else on this host ({})",
            bound.join(", ")
        )
    }
}
