//! Making, starting and replacing the containers of a revision.

use super::Action;
use crate::core::Core;
use crate::journal::{Attempt, DeploymentRecord, RunningService};
use crate::runtime::{ContainerJob, Created, Exposure, ImageFacts, Runtime, StepError};
use futures::future::join_all;
use shared::message::LeasedPort;
use shared::name::ServiceName;
use shared::spec::{DeploymentSpec, ServiceSpec};
use std::collections::BTreeMap;

/// The image of each service.
pub(super) type Images = BTreeMap<ServiceName, ImageFacts>;

/// Creates and starts a container for every service, all at once.
///
/// Nothing under way is dropped, neither when it is interrupted nor when one of them fails: the
/// engine goes on making a container whose caller is gone, and would have it ready only after
/// everything was removed. Every call to the engine ends within its own limit.
pub(super) async fn start_all(
    action: &Action,
    spec: &DeploymentSpec,
    images: &Images,
    ports: &[LeasedPort],
) -> Result<Vec<RunningService>, StepError> {
    let start = |service| start_one(action, service, images, ports);
    let started = join_all(spec.services.iter().map(start)).await;
    started.into_iter().collect()
}

async fn start_one(
    action: &Action,
    service: &ServiceSpec,
    images: &Images,
    ports: &[LeasedPort],
) -> Result<RunningService, StepError> {
    let image = images
        .get(&service.name)
        .map(|image| image.id.clone())
        .unwrap_or_default();
    let runtime = &action.core.runtime;
    let published = published(&**runtime, &service.name, ports);
    if action.cancel.is_cancelled() {
        return Err(StepError::Interrupted);
    }
    let created = runtime
        .create(ContainerJob {
            deployment_id: action.request().deployment_id,
            deployment_name: &action.request().deployment_name,
            attempt: action.attempt(),
            store: Some(action.request().store),
            service,
            image: &image,
            address: None,
            published: &published,
        })
        .await?;
    shared::fail_point!("node::action::between_create_and_start");
    if action.cancel.is_cancelled() {
        return Err(StepError::Interrupted);
    }
    runtime
        .start(&created.id)
        .await
        .map_err(crate::runtime::RuntimeError::while_starting)?;
    action.log.system(format!(
        "started container {} of service {}",
        short(&created.id),
        service.name
    ));
    Ok(RunningService {
        name: service.name.clone(),
        container: created.id,
        image,
        address: created.address,
        stopped: false,
    })
}

/// Creates the container of a service again, in the place of one that is gone. It is not started.
pub(crate) async fn recreate(
    core: &Core,
    record: &DeploymentRecord,
    service: &RunningService,
) -> Result<Created, StepError> {
    let runtime = &core.runtime;
    let gone = || {
        let reason = shared::status::FailureReason::StartFailed;
        StepError::failed(
            reason,
            format!(
                "this node does not know service {} of the deployment any more",
                service.name
            ),
        )
    };
    let running = record.current.as_ref().ok_or_else(gone)?;
    let spec = running
        .spec
        .services
        .iter()
        .find(|spec| spec.name == service.name)
        .ok_or_else(gone)?;
    let attempt: Attempt = running.attempt;
    let published = published(&**runtime, &service.name, &running.ports);
    runtime
        .create(ContainerJob {
            deployment_id: record.deployment_id,
            deployment_name: &record.name,
            attempt,
            store: core.journal.read(|state| state.store),
            service: spec,
            image: &service.image,
            address: service.address,
            published: &published,
        })
        .await
}

/// What the engine publishes of a service, where it has to.
pub(super) fn published(
    runtime: &dyn Runtime,
    service: &ServiceName,
    ports: &[LeasedPort],
) -> Vec<(u16, u16)> {
    match runtime.exposure() {
        Exposure::Forwarded => Vec::new(),
        Exposure::Published => ports
            .iter()
            .filter(|lease| lease.service == *service)
            .map(|lease| (lease.port, lease.container_port))
            .collect(),
    }
}

/// A container's id as people know it.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
