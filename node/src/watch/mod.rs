//! Watching what runs: one sentinel a deployment, from its switch until it is stopped, replaced or
//! destroyed.
//!
//! The engine starts a container that ended again by itself. A sentinel sees that, says DEGRADED
//! and why, and RUNNING once the service answers again.

mod guard;
mod sentinel;

use crate::core::Core;
use shared::id::DeploymentId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Who watches what runs.
#[derive(Debug, Default)]
pub(crate) struct Sentinels {
    watching: Mutex<HashMap<DeploymentId, Sentinel>>,
}

#[derive(Debug)]
struct Sentinel {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sentinels {
    /// Watches what the journal says runs of a deployment, in place of what was watched before.
    pub(crate) fn follow(&self, core: &Arc<Core>, deployment_id: DeploymentId) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let before = watching.remove(&deployment_id);
        if let Some(before) = &before {
            before.stop.cancel();
        }
        let record = core
            .journal
            .read(|state| state.deployments.get(&deployment_id).cloned());
        let Some(record) = record.filter(|record| {
            record
                .current
                .as_ref()
                .is_some_and(|running| !running.is_stopped())
        }) else {
            return;
        };
        let stop = core.stop.child_token();
        let (core_of_task, stop_of_task) = (core.clone(), stop.clone());
        let task = core.tasks.spawn(async move {
            if let Some(before) = before {
                // Its report, if it is just writing one, comes before ours. A task that was aborted
                // writes none.
                let _ = before.task.await;
            }
            let watch = Box::pin(sentinel::watch(core_of_task, record));
            let _ = stop_of_task.run_until_cancelled(watch).await;
        });
        watching.insert(deployment_id, Sentinel { stop, task });
    }

    /// Watches a deployment no longer; returns once its sentinel says nothing any more.
    pub(crate) async fn forget(&self, deployment_id: DeploymentId) {
        let watched = self
            .watching
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&deployment_id);
        if let Some(sentinel) = watched {
            sentinel.stop.cancel();
            // It ends at its next await; an aborted one has ended.
            let _ = sentinel.task.await;
        }
    }
}
