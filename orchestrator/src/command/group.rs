//! Group commit: requests that come while a transaction is under way share the next one.
//!
//! One row in a transaction of its own costs forty times what it costs among a hundred. Nobody waits
//! for company: a request that finds no transaction under way begins one at once.

use crate::error::CommandError;
use crate::store::{Created, NewDeployment, Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// How many requests share a transaction at most.
const GROUP_LIMIT: usize = 256;

type Waiting = (
    NewDeployment,
    oneshot::Sender<Result<Created, Arc<StoreError>>>,
);

/// Deployments that wait to be made. Cheap to clone.
#[derive(Clone)]
pub(super) struct Creations {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    waiting: Mutex<Vec<Waiting>>,
    // Whoever holds it makes all that wait.
    turn: Semaphore,
}

impl std::fmt::Debug for Creations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Creations").finish_non_exhaustive()
    }
}

impl Creations {
    pub(super) fn new(store: Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                waiting: Mutex::new(Vec::new()),
                turn: Semaphore::new(1),
            }),
        }
    }

    /// Makes a deployment, together with what else is asked for meanwhile.
    pub(super) async fn submit(&self, new: NewDeployment) -> Result<Created, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.inner.push((new, answer));
        // In a task of its own: whoever asked may go away, and takes nobody else's answer along.
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.take_turn().await });
        match answered.await {
            Ok(Ok(created)) => Ok(created),
            Ok(Err(error)) => Err(error.into()),
            Err(gone) => Err(CommandError::Internal(Box::new(gone))),
        }
    }
}

impl Inner {
    fn push(&self, waiting: Waiting) {
        // A list of requests is whole also when a thread that held it panicked.
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(waiting);
    }

    fn group(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(GROUP_LIMIT);
        waiting.drain(..count).collect()
    }

    async fn take_turn(&self) {
        let Ok(_turn) = self.turn.acquire().await else {
            return;
        };
        let group = self.group();
        if group.is_empty() {
            // Whoever had the turn before made ours too.
            return;
        }
        let (new, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        match self.store.deployments_create(&new).await {
            Ok(created) => {
                shared::fail_point!("orchestrator::create::after_commit_before_answer");
                for (answer, created) in answers.into_iter().zip(created) {
                    // Whoever asked may have gone away; the deployment is there all the same.
                    let _ = answer.send(Ok(created));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}
