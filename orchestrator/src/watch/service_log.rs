//! Following what a deployment's services print: the reader's wish is told to the node, again and
//! again while somebody reads, and the node stops by itself once nobody renews it.

use super::LogLineView;
use super::hub::{Hub, ReaderGuard, ServiceLine};
use crate::error::CommandError;
use crate::query::Queries;
use futures::stream::{self, BoxStream, StreamExt};
use shared::bus::{Address, Bus};
use shared::id::{DeploymentId, StoreIncarnation, StreamId, WorkId};
use shared::message::{WorkAction, WorkItem, WorkRequest, encode};
use shared::name::{NodeName, ServiceName};
use shared::status::{LogStream, NodeStatus};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

/// How often a wish is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// After how many seconds without renewal the node stops: three renewals may be lost.
const LEASE_SECONDS: u32 = 35;

/// What one reader wishes to follow.
pub(super) struct Wish {
    pub(super) deployment_id: DeploymentId,
    pub(super) service: Option<ServiceName>,
    pub(super) tail: u32,
}

/// What following needs of the orchestrator.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) hub: Hub,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) queries: Queries,
    pub(super) store: StoreIncarnation,
}

/// Starts to follow.
pub(super) async fn follow(
    means: Means,
    wish: Wish,
) -> Result<BoxStream<'static, Result<LogLineView, CommandError>>, CommandError> {
    check_service(&means, &wish).await?;
    let stream = StreamId::new();
    let (lines, place) = means.hub.reader(stream);
    let mut follower = Follower {
        renew: tokio::time::interval(RENEW),
        // Dropped with the follower, it says goodbye to the node.
        farewell: Farewell {
            bus: Arc::clone(&means.bus),
            last: None,
        },
        means,
        wish,
        stream,
        lines,
        _place: place,
        waiting: VecDeque::new(),
        told: 0,
    };
    follower
        .renew
        .set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first renewal tells whether there is anything to follow, and where.
    follower.renew.tick().await;
    follower.renew().await?;
    Ok(stream::try_unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Ok(Some((line, follower)))
    })
    .boxed())
}

async fn check_service(means: &Means, wish: &Wish) -> Result<(), CommandError> {
    let Some(name) = &wish.service else {
        return Ok(());
    };
    let mut services = means.queries.services_of(&[wish.deployment_id]).await?;
    let services = services.remove(&wish.deployment_id).unwrap_or_default();
    if services.iter().any(|service| service.name == *name) {
        Ok(())
    } else {
        Err(CommandError::not_found("service", name))
    }
}

/// One reader.
struct Follower {
    means: Means,
    wish: Wish,
    stream: StreamId,
    lines: mpsc::Receiver<ServiceLine>,
    renew: Interval,
    farewell: Farewell,
    _place: ReaderGuard,
    waiting: VecDeque<LogLineView>,
    told: i64,
}

impl Follower {
    async fn next(&mut self) -> Result<LogLineView, CommandError> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.told += 1;
                return Ok(LogLineView {
                    seq: self.told,
                    ..line
                });
            }
            tokio::select! {
                // The hub holds the other end for as long as this reader has its place.
                Some(line) = self.lines.recv() => self.take(line),
                _ = self.renew.tick() => self.renew().await?,
            }
        }
    }

    fn take(
        &mut self,
        ServiceLine {
            line,
            left_out_before,
        }: ServiceLine,
    ) {
        if left_out_before > 0 {
            let text = format!("({left_out_before} lines left out: this reader reads too slowly)");
            self.waiting.push_back(LogLineView {
                seq: 0,
                at: line.at,
                stream: LogStream::System,
                service: None,
                text,
            });
        }
        let service = line.source.map(|source| source.service.to_string());
        self.waiting.push_back(LogLineView {
            seq: 0,
            at: line.at,
            stream: line.stream,
            service,
            text: line.text,
        });
    }

    /// Tells the node that the deployment is on now that somebody reads.
    async fn renew(&mut self) -> Result<(), CommandError> {
        let Some((node, request)) = self.order().await? else {
            return Ok(());
        };
        self.farewell.last = Some((
            node.clone(),
            WorkRequest {
                action: WorkAction::UnfollowLogs {
                    stream: self.stream,
                },
                ..request.clone()
            },
        ));
        if let Err(error) = self
            .means
            .bus
            .publish(Address::Work(node), encode(&[WorkItem::from(request)]))
            .await
        {
            tracing::debug!(stream = %self.stream, %error, "a wish to follow a service log was not told; it is told again");
        }
        Ok(())
    }

    async fn order(&self) -> Result<Option<(NodeName, WorkRequest)>, CommandError> {
        let id = self.wish.deployment_id;
        let queries = &self.means.queries;
        let deployment = queries
            .deployment_by_id(id)
            .await?
            .ok_or_else(|| CommandError::not_found("deployment", id))?;
        let nothing = || {
            CommandError::conflict(format!(
                "nothing of deployment {} runs or was kept stopped: only its build logs can be read",
                deployment.name
            ))
        };
        let revision = deployment.active_revision_id.ok_or_else(nothing)?;
        let revision = queries
            .revisions_by_ids(&[revision])
            .await?
            .remove(&revision)
            .ok_or_else(nothing)?;
        let node = revision.node_id.ok_or_else(nothing)?;
        let node = queries
            .nodes_by_ids(&[node])
            .await?
            .remove(&node)
            .ok_or_else(nothing)?;
        if node.status == NodeStatus::Lost {
            // Wishes would pile up in its queue. When it is back, the next renewal reaches it.
            return Ok(None);
        }
        let request = WorkRequest {
            id: WorkId::new(),
            store: self.means.store,
            deployment_id: id,
            deployment_name: deployment.name,
            revision_id: revision.id,
            revision: revision.number,
            epoch: revision.epoch,
            last_report_seq: 0,
            action: WorkAction::FollowLogs {
                stream: self.stream,
                service: self.wish.service.clone(),
                tail: self.wish.tail,
                lease_seconds: LEASE_SECONDS,
            },
        };
        Ok(Some((node.name, request)))
    }
}

/// Tells the node that the reader went away; if that is lost, the lease ends it.
struct Farewell {
    bus: Arc<dyn Bus>,
    last: Option<(NodeName, WorkRequest)>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let Some((node, request)) = self.last.take() else {
            return;
        };
        let bus = Arc::clone(&self.bus);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = bus.publish(Address::Work(node), encode(&[WorkItem::from(request)])).await {
                    tracing::debug!(%error, "a farewell to a service log was not told; its lease ends it");
                }
            });
        }
    }
}
