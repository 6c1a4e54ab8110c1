//! Following the steps of deployments.

use super::seen::{Seen, Verdict};
use crate::error::{ApiError, Code};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use orchestrator::watch::Lagged;
use orchestrator::{CommandError, Queries, Watch};
use shared::id::{DeploymentId, RevisionId};
use shared::message::StatusEvent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the store is asked about the one deployment that is followed, in case that the last
/// event was lost on its way between two orchestrators.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Follows one deployment from the first step of its newest revision, or all from now on.
///
/// # Errors
/// `NOT_FOUND` for an unknown deployment; `UNAVAILABLE`.
pub(super) async fn follow(
    watch: &Watch,
    queries: Queries,
    deployment: Option<DeploymentId>,
) -> Result<impl Stream<Item = Result<StatusEvent, ApiError>> + Send + 'static + use<>, ApiError> {
    // Listening comes before reading: what happens in between is told twice to us, and once by us.
    let live = watch.status_events(deployment).boxed();
    let mut look_again =
        tokio::time::interval_at(tokio::time::Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
    look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = Feed {
        live,
        queries,
        deployment,
        seen: Seen::new(None),
        waiting: VecDeque::new(),
        look_again,
        ended: false,
    };
    if let Some(deployment) = deployment {
        feed.start(deployment).await?;
    }
    Ok(stream::unfold(feed, |mut feed| async move {
        feed.next().await.map(|event| (event, feed))
    }))
}

/// One subscriber's place.
struct Feed {
    live: BoxStream<'static, Result<Arc<StatusEvent>, Lagged>>,
    queries: Queries,
    deployment: Option<DeploymentId>,
    seen: Seen,
    /// To be told next, already noted in `seen`.
    waiting: VecDeque<StatusEvent>,
    look_again: Interval,
    ended: bool,
}

impl Feed {
    /// Reads the newest revision's steps so far.
    async fn start(&mut self, deployment: DeploymentId) -> Result<(), ApiError> {
        let view = self.queries.deployment_by_id(deployment).await?;
        let view = view.ok_or_else(|| CommandError::not_found("deployment", deployment))?;
        let events = match view.latest_revision_id {
            Some(revision) => self.steps_of(revision).await?,
            None => Vec::new(),
        };
        // What has a higher number than this revision is made after the subscription began.
        self.seen = Seen::new(Some(events.first().map_or(0, |event| event.revision - 1)));
        self.take(events);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<StatusEvent, ApiError>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.wait().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Waits until there may be something to tell.
    async fn wait(&mut self) -> Result<(), ApiError> {
        tokio::select! {
            event = self.live.next() => match event {
                Some(Ok(event)) => self.hear(event).await,
                Some(Err(lagged)) => Err(too_slow(lagged)),
                None => Err(ApiError::new(Code::Unavailable, "the server is stopping; subscribe again")),
            },
            _ = self.look_again.tick(), if self.deployment.is_some() => self.look_again().await,
        }
    }

    /// A live event: told, unless it was, with what should have come before it.
    async fn hear(&mut self, event: Arc<StatusEvent>) -> Result<(), ApiError> {
        if self.seen.judge(&event) == Verdict::Gap {
            let steps = self.steps_of(event.revision_id).await?;
            self.take(steps);
        }
        self.take([Arc::unwrap_or_clone(event)]);
        Ok(())
    }

    async fn look_again(&mut self) -> Result<(), ApiError> {
        let Some(deployment) = self.deployment else {
            return Ok(());
        };
        let view = self.queries.deployment_by_id(deployment).await?;
        if let Some(revision) = view.and_then(|view| view.latest_revision_id) {
            let steps = self.steps_of(revision).await?;
            self.take(steps);
        }
        Ok(())
    }

    async fn steps_of(&mut self, revision: RevisionId) -> Result<Vec<StatusEvent>, ApiError> {
        let mut found = self.queries.events_of(&[revision]).await?;
        Ok(found.remove(&revision).unwrap_or_default())
    }

    /// Queues what was not told yet, in order.
    fn take(&mut self, events: impl IntoIterator<Item = StatusEvent>) {
        for event in events {
            if self.seen.tell(&event) {
                self.waiting.push_back(event);
            }
        }
    }
}

/// A subscriber who reads too slowly is told so, rather than given a history with holes.
pub(crate) fn too_slow(lagged: Lagged) -> ApiError {
    ApiError::new(
        Code::Unavailable,
        format!("this subscriber reads too slowly: {lagged}"),
    )
}
