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

    /// Watches whatever the journal says runs and nobody watches, such as after a sentinel ended in
    /// a way that it never should; what is just being changed watches itself.
    pub(crate) fn follow_all(&self, core: &Arc<Core>, is_busy: impl Fn(DeploymentId) -> bool) {
        let running: Vec<DeploymentId> = core.journal.read(|state| {
            let records = state.deployments.values().filter(|record| {
                let current = record.current.as_ref();
                current.is_some_and(|running| !running.is_stopped())
            });
            records.map(|record| record.deployment_id).collect()
        });
        for deployment_id in running {
            if !is_busy(deployment_id) && !self.is_watched(deployment_id) {
                tracing::warn!(%deployment_id, "nobody watched what runs; it is watched again");
                self.follow(core, deployment_id);
            }
        }
    }

    fn is_watched(&self, deployment_id: DeploymentId) -> bool {
        let watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let sentinel = watching.get(&deployment_id);
        sentinel.is_some_and(|sentinel| !sentinel.task.is_finished())
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
