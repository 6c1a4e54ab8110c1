//! Where leased ports lead: one table for the whole node, changed a deployment at a time.

use crate::journal::{DeploymentRecord, RunningRevision, State};
use crate::runtime::{Exposure, PortRoute, Runtime, RuntimeError};
use shared::id::DeploymentId;
use shared::message::LeasedPort;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::Mutex;

type Table = BTreeMap<DeploymentId, Vec<PortRoute>>;

/// Where leased ports should lead.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    // Held over the calls that put it in force, so that two changes never overtake each other.
    table: Mutex<Table>,
}

impl Routes {
    /// Makes the ports of one deployment lead where `routes` says, and nowhere else. After an error
    /// they still should: [`Routes::refresh`] goes on trying.
    pub(crate) async fn set(
        &self,
        runtime: &dyn Runtime,
        deployment_id: DeploymentId,
        routes: Vec<PortRoute>,
    ) -> Result<(), RuntimeError> {
        let mut table = self.table.lock().await;
        let before = table
            .insert(deployment_id, routes.clone())
            .unwrap_or_default();
        let close = ports(&before)
            .difference(&ports(&routes))
            .copied()
            .collect::<Vec<_>>();
        put(runtime, &routes, &close).await
    }

    /// Makes the ports of one deployment lead nowhere.
    pub(crate) async fn clear(
        &self,
        runtime: &dyn Runtime,
        deployment_id: DeploymentId,
    ) -> Result<(), RuntimeError> {
        let mut table = self.table.lock().await;
        let close: Vec<u16> = table
            .remove(&deployment_id)
            .iter()
            .flat_map(ports)
            .collect();
        put(runtime, &[], &close).await
    }

    /// From now on every port should lead where the journal says.
    pub(crate) async fn adopt(&self, state: Table) {
        *self.table.lock().await = state;
    }

    /// Looks whether every port leads where it should, and mends what does not.
    pub(crate) async fn refresh(&self, runtime: &dyn Runtime) -> Result<(), RuntimeError> {
        if runtime.exposure() == Exposure::Published {
            return Ok(());
        }
        let table = self.table.lock().await;
        let wanted: BTreeSet<PortRoute> = table.values().flatten().copied().collect();
        // Nobody is started to keep nothing open. What is open all the same is closed: a port that
        // an action of an earlier process opened just before its end.
        let found = runtime.exposed(!wanted.is_empty()).await?;
        let found: BTreeSet<PortRoute> = found.into_iter().collect();
        let mut outcome = Ok(());
        let surplus = ports(&found)
            .difference(&ports(&wanted))
            .copied()
            .collect::<Vec<_>>();
        if !surplus.is_empty() {
            outcome = put(runtime, &[], &surplus).await;
        }
        // One deployment whose port something else has taken must not keep the others closed.
        for routes in table
            .values()
            .filter(|routes| routes.iter().any(|route| !found.contains(route)))
        {
            outcome = put(runtime, routes, &[]).await.and(outcome);
        }
        outcome
    }
}

async fn put(
    runtime: &dyn Runtime,
    routes: &[PortRoute],
    close: &[u16],
) -> Result<(), RuntimeError> {
    let is_nothing = routes.is_empty() && close.is_empty();
    if is_nothing || runtime.exposure() == Exposure::Published {
        return Ok(());
    }
    runtime.expose(routes, close).await
}

fn ports<'a>(routes: impl IntoIterator<Item = &'a PortRoute>) -> BTreeSet<u16> {
    routes.into_iter().map(|route| route.port).collect()
}

/// Where the ports of a revision lead: to its services that are not stopped.
pub(crate) fn of(running: &RunningRevision) -> Vec<PortRoute> {
    let lead = |lease: &LeasedPort| {
        let service = running
            .services
            .iter()
            .find(|service| service.name == lease.service)?;
        let address = service.address.filter(|_| !service.stopped)?;
        Some(PortRoute {
            port: lease.port,
            address,
            container_port: lease.container_port,
        })
    };
    running.ports.iter().filter_map(lead).collect()
}

/// Where every port of the node leads by its journal. What is leaving serves elsewhere by now.
pub(crate) fn journalled(state: &State) -> Table {
    let running =
        |record: &DeploymentRecord| Some((record.deployment_id, of(record.current.as_ref()?)));
    let stays = |record: &&DeploymentRecord| !state.leaving.contains(&record.deployment_id);
    let stay = state.deployments.values().filter(stays);
    stay.filter_map(running).collect()
}
