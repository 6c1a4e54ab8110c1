//! Drift: what somebody stopped, started or removed by hand behind the node's back.
//!
//! What serves is the sentinels' business ([`crate::watch`]): the engine's events wake them, and
//! they look by themselves as often as the health check asks. Here is what neither covers: events
//! that never came, a check with a long interval, a sentinel that ended, and what is stopped on
//! request but runs. Every minute, and with every picture; a broker is not needed for it.

use crate::action;
use crate::core::Core;
use crate::lanes::Lanes;
use crate::runtime::EngineEvent;
use shared::id::DeploymentId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The time between two comparisons.
const EVERY: Duration = Duration::from_secs(60);

/// Compares until the node stops.
pub(crate) async fn keep(core: Arc<Core>, lanes: Lanes) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while core.stop.run_until_cancelled(tick.tick()).await.is_some() {
        core.sentinels
            .follow_all(&core, |deployment_id| lanes.is_busy(deployment_id));
        look_at_all(&core);
        let stopping = stop_what_is_stopped(&core, &lanes);
        if core.stop.run_until_cancelled(stopping).await.is_none() {
            return;
        }
    }
}

/// Has every sentinel look at once, as after a gap in the engine's events.
pub(super) fn look_at_all(core: &Core) {
    // An error only says that nothing is watched now.
    let _ = core.events.send(EngineEvent::Missed);
}

/// Stops again what was stopped on request and runs all the same.
async fn stop_what_is_stopped(core: &Arc<Core>, lanes: &Lanes) {
    let stopped: Vec<(DeploymentId, String)> = core.journal.read(|state| {
        let services = state.deployments.values().flat_map(|record| {
            let services = record.current.iter().flat_map(|running| &running.services);
            services
                .filter(|service| service.stopped)
                .map(|service| (record.deployment_id, service.container.clone()))
        });
        services.collect()
    });
    for (deployment_id, container) in stopped {
        if lanes.is_busy(deployment_id) {
            continue;
        }
        // An engine that is away runs nothing by hand either; the next comparison sees.
        let state = core.runtime.inspect(&container).await.ok().flatten();
        if state.is_some_and(|state| state.running) {
            let core_of_job = core.clone();
            let job = async move { action::stop_again(&core_of_job, deployment_id).await };
            drop(lanes.before_all(core, deployment_id, &BTreeSet::new(), Box::pin(job)));
        }
    }
}
