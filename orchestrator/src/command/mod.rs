//! What people can ask for. Each command checks its input, writes rows in one transaction, announces
//! what it recorded, wakes the loop that goes on, and answers with what is now true.
//!
//! Nothing here talks to a node: a wish is a row before it is a message.

mod create;
mod group;
mod input;
mod lifecycle;
mod node;
mod revise;

use crate::error::CommandError;
use crate::event::{EventSink, Wake};
use crate::query::Queries;
use crate::settings::GitPolicy;
use crate::store::{Acted, Store};
use crate::view::{DeploymentView, NodeView, RevisionView};
use group::Creations;
use shared::id::{DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use shared::status::Method;
use std::sync::Arc;

/// What people can ask for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commands {
    store: Store,
    queries: Queries,
    git: GitPolicy,
    events: EventSink,
    wake: Arc<Wake>,
    creations: Creations,
}

/// A new deployment, in the words of whoever asks; parsed and vetted by [`Commands::create`].
#[derive(Clone, Debug, Default)]
pub struct CreateDeployment {
    /// Its name.
    pub name: String,
    /// Where its versions come from: exactly one.
    pub source: NewSource,
    /// Labels as key and value.
    pub labels: Vec<(String, String)>,
    /// The node that it must run on, by name.
    pub node: Option<String>,
    /// How a new revision replaces the old one; else the source decides.
    pub method: Option<Method>,
}

/// Where versions come from, in the words of whoever asks: exactly one of these.
#[derive(Clone, Debug, Default)]
pub struct NewSource {
    /// A Git repository.
    pub git: Option<NewGitSource>,
    /// An image of a registry.
    pub image: Option<NewImageSource>,
}

/// A Git repository, in the words of whoever asks.
#[derive(Clone, Debug, Default)]
pub struct NewGitSource {
    /// Its address.
    pub url: String,
    /// The branch, tag or commit; the default branch when absent.
    pub git_ref: Option<String>,
    /// The folder that is deployed; the root when absent.
    pub subdir: Option<String>,
    /// How often the ref is looked at, in seconds; 0 means never; 60 when absent.
    pub poll_seconds: Option<i32>,
}

/// An image of a registry, in the words of whoever asks.
#[derive(Clone, Debug, Default)]
pub struct NewImageSource {
    /// The reference, such as `nginx:1.27`.
    pub reference: String,
    /// The port that it listens on in its container.
    pub port: Option<i32>,
}

impl Commands {
    /// Commands on a store. What they record goes to `events`; the loops behind `wake` go on.
    #[must_use]
    pub fn new(store: Store, git: GitPolicy, events: EventSink, wake: Arc<Wake>) -> Self {
        Self {
            queries: Queries::new(store.clone()),
            creations: Creations::new(store.clone()),
            store,
            git,
            events,
            wake,
        }
    }

    /// Makes a deployment with its first revision.
    ///
    /// # Errors
    /// `INVALID_INPUT` naming the field; `CONFLICT` when the name is taken; `UNAVAILABLE`.
    pub async fn create(&self, input: CreateDeployment) -> Result<DeploymentView, CommandError> {
        create::create(self, input).await
    }

    /// Makes a new revision. With `git_ref` that becomes the deployment's ref. A stopped deployment
    /// is started by it.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT`; `CONFLICT` when it is or is being destroyed; `UNAVAILABLE`.
    pub async fn redeploy(
        &self,
        id: DeploymentId,
        git_ref: Option<String>,
    ) -> Result<DeploymentView, CommandError> {
        revise::redeploy(self, id, git_ref).await
    }

    /// Makes a new revision of what an earlier one ran: of revision number `to_revision`, or of the
    /// last one before the present that was RUNNING.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when there is nothing to go back to or the deployment is or is being
    /// destroyed; `UNAVAILABLE`.
    pub async fn rollback(
        &self,
        id: DeploymentId,
        to_revision: Option<i32>,
    ) -> Result<DeploymentView, CommandError> {
        revise::rollback(self, id, to_revision).await
    }

    /// Starts what was stopped; all services when `services` is empty. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to start; `UNAVAILABLE`.
    pub async fn start(
        &self,
        id: DeploymentId,
        services: Vec<String>,
    ) -> Result<DeploymentView, CommandError> {
        lifecycle::start(self, id, &services).await
    }

    /// Stops containers and keeps them, with their ports and volumes; all services when `services`
    /// is empty, and then a revision that is on its way is cancelled too. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to stop; `UNAVAILABLE`.
    pub async fn stop(
        &self,
        id: DeploymentId,
        services: Vec<String>,
    ) -> Result<DeploymentView, CommandError> {
        lifecycle::stop(self, id, &services).await
    }

    /// Stops and starts containers; all services when `services` is empty.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a service that it does not have; `CONFLICT` when there is
    /// nothing to restart; `UNAVAILABLE`.
    pub async fn restart(
        &self,
        id: DeploymentId,
        services: Vec<String>,
    ) -> Result<DeploymentView, CommandError> {
        lifecycle::restart(self, id, &services).await
    }

    /// Removes everything of a deployment; its volumes, and with them its data, only when `volumes`
    /// says so.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it is or is being destroyed already; `UNAVAILABLE`.
    pub async fn destroy(
        &self,
        id: DeploymentId,
        volumes: bool,
    ) -> Result<DeploymentView, CommandError> {
        lifecycle::destroy(self, id, volumes).await
    }

    /// Gives up a revision that is on its way.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it is not on its way; `UNAVAILABLE`.
    pub async fn cancel_revision(&self, id: RevisionId) -> Result<RevisionView, CommandError> {
        revise::cancel(self, id).await
    }

    /// Lets a node get nothing new. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn cordon_node(&self, id: NodeId) -> Result<NodeView, CommandError> {
        node::cordon(self, id).await
    }

    /// Lets a node get something new again, and ends its draining. Asking twice is fine.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn uncordon_node(&self, id: NodeId) -> Result<NodeView, CommandError> {
        node::uncordon(self, id).await
    }

    /// Cordons a node and moves what can be elsewhere, until the deadline. Asking again sets another one.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` for a deadline that is none; `UNAVAILABLE`.
    pub async fn drain_node(
        &self,
        id: NodeId,
        deadline_seconds: i32,
    ) -> Result<NodeView, CommandError> {
        node::drain(self, id, deadline_seconds).await
    }

    /// Takes a lost node out of the fleet, with what only it had.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when the node is not lost; `UNAVAILABLE`.
    pub async fn remove_node(&self, id: NodeId) -> Result<NodeView, CommandError> {
        node::remove(self, id).await
    }

    /// What follows each command's commit: subscribers hear of it, the loops go on, the caller sees it.
    async fn recorded(
        &self,
        id: DeploymentId,
        acted: Acted,
    ) -> Result<DeploymentView, CommandError> {
        self.announce(acted);
        self.queries
            .deployment_by_id(id)
            .await?
            .ok_or_else(|| CommandError::not_found("deployment", id))
    }

    /// The same for a deployment that was just made: there is nothing to send yet, and nothing to
    /// look at unless its repository is watched.
    fn announce_requested(&self, step: StatusEvent, made: &DeploymentView) {
        self.events.steps([step]);
        self.wake.requested.notify_one();
        let is_watched = made
            .git_watch
            .as_ref()
            .is_some_and(|watch| watch.next_poll_at.is_some());
        if is_watched {
            self.wake.watcher.notify_one();
        }
    }

    /// Wakes only whoever has something to do: each look would delay what was asked for.
    fn announce(&self, acted: Acted) {
        self.events.steps(acted.steps);
        self.wake.requested.notify_one();
        if acted.orders > 0 {
            self.wake.publisher.notify_one();
        }
        if acted.is_watched_anew {
            self.wake.watcher.notify_one();
        }
    }
}
