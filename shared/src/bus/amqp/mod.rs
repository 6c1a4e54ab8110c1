//! The fleet's transport: RabbitMQ.
//!
//! ```text
//!  publish ──▶ lane (one a kind of address: channel, confirms) ──▶ publishing connection ══▶ broker
//!  Consumer ◀── subscriber (one a consumer: channel, acks)     ◀── consuming connection  ◀══ broker
//! ```
//!
//! - Two connections, since a broker that is short of disk or memory blocks those that publish.
//! - [`link`] keeps each of them up. lapin's own recovery is off: it was seen to hang for ever.
//! - Nothing of lapin is awaited without a time limit.
//! - What the broker says has no credentials in it, and what lapin says of an address is never
//!   passed on: a reason names host and port only.

mod confirms;
mod consumer;
mod death;
mod error;
mod lane;
mod link;
mod options;
#[cfg(any(test, feature = "conformance"))]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is for tests: what it did not expect ends them"
)]
pub mod test_broker;
#[cfg(test)]
mod tests;
mod topology;

pub use options::{AmqpOptions, AmqpOptionsError, AmqpRole, AmqpTls};

use super::{Address, Bus, BusError, BusHealth, Consumer, PUBLISH_TIMEOUT, Subscription};
use crate::name::NodeName;
use async_trait::async_trait;
use consumer::Subscriber;
use lane::{Job, Lane};
use lapin::types::FieldTable;
use link::{Link, LinkState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology::{Target, Topology};

/// How long a closing bus waits for its tasks.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// A bus over RabbitMQ. It connects by itself, and again whenever that is needed.
pub struct AmqpBus {
    role: AmqpRole,
    publishing: Link,
    consuming: Link,
    topology: Arc<Topology>,
    lanes: Arc<Lanes>,
    health: watch::Receiver<BusHealth>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl AmqpBus {
    /// Starts to connect, in the background: a broker that is away is waited for. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AmqpOptionsError`] for an address that can never work.
    pub fn start(options: AmqpOptions) -> Result<Self, AmqpOptionsError> {
        let role = options.role.clone();
        let endpoint = Arc::new(options.into_endpoint()?);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let topology = Arc::new(Topology::new(role.clone()));
        let publishing = Link::start(
            "publish",
            Arc::clone(&endpoint),
            Arc::clone(&topology),
            &tasks,
            &stop,
        );
        let consuming = Link::start(
            "consume",
            Arc::clone(&endpoint),
            Arc::clone(&topology),
            &tasks,
            &stop,
        );
        let user_id = endpoint.user_id();
        let lanes = Arc::new(Lanes::start(&publishing, user_id, &tasks, &stop));
        let (report, health) = watch::channel(BusHealth::Down {
            reason: "connecting".to_owned(),
        });
        tasks.spawn(watch_health(
            publishing.state(),
            consuming.state(),
            report,
            stop.clone(),
        ));
        Ok(Self {
            role,
            publishing,
            consuming,
            topology,
            lanes,
            health,
            tasks,
            stop,
        })
    }

    /// Closes both connections and waits, at most three seconds, until the broker knows.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_GRACE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the broker did not see its connections closed in time");
        }
    }

    fn orchestrators_only(&self) -> Result<(), BusError> {
        match &self.role {
            AmqpRole::Orchestrator => Ok(()),
            AmqpRole::Node(name) => Err(BusError::Refused {
                reason: format!("node {name} may not declare or remove queues"),
            }),
        }
    }
}

impl Drop for AmqpBus {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Bus for AmqpBus {
    async fn declare_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        self.orchestrators_only()?;
        let session = self
            .publishing
            .session(Instant::now() + PUBLISH_TIMEOUT)
            .await?;
        self.topology.declare_work_queue(&session, node).await
    }

    async fn delete_work_queue(&self, node: &NodeName) -> Result<(), BusError> {
        self.orchestrators_only()?;
        let session = self
            .publishing
            .session(Instant::now() + PUBLISH_TIMEOUT)
            .await?;
        self.topology.delete_work_queue(&session, node).await
    }

    async fn publish(&self, address: Address, body: Vec<u8>) -> Result<(), BusError> {
        self.lanes.publish(Target::of(&address), body, None).await
    }

    async fn consume(
        &self,
        subscription: Subscription,
        prefetch: u16,
    ) -> Result<Consumer, BusError> {
        if self.stop.is_cancelled() {
            return Err(BusError::Closed);
        }
        self.topology.may_consume(&subscription)?;
        let prefetch = prefetch.max(1);
        let stop = self.stop.child_token();
        let (sender, receiver) = mpsc::channel(usize::from(prefetch));
        let subscriber = Subscriber {
            subscription,
            prefetch,
            state: self.consuming.state(),
            topology: Arc::clone(&self.topology),
            lanes: Arc::clone(&self.lanes),
            deliveries: sender,
            stop: stop.clone(),
        };
        self.tasks.spawn(subscriber.run());
        Ok(Consumer::new(receiver, stop))
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.health.clone()
    }
}

/// The publishing side: one lane a kind of address, so that a refused address or a flood of log
/// lines holds up nothing else.
struct Lanes {
    state: watch::Receiver<LinkState>,
    jobs: [mpsc::Sender<Job>; Target::KINDS],
}

impl Lanes {
    fn start(
        link: &Link,
        user_id: Option<String>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let jobs = std::array::from_fn(|_| {
            let (sender, receiver) = mpsc::channel(lane::BACKLOG);
            tasks.spawn(Lane::new(link.state(), receiver, user_id.clone(), stop.clone()).run());
            sender
        });
        Self {
            state: link.state(),
            jobs,
        }
    }

    /// Publishes and waits for the confirmation, at most [`PUBLISH_TIMEOUT`]. A body waits here,
    /// with its owner, while the broker is away: nothing piles up inside the transport.
    async fn publish(
        &self,
        target: Target,
        body: Vec<u8>,
        headers: Option<FieldTable>,
    ) -> Result<(), BusError> {
        let deadline = Instant::now() + PUBLISH_TIMEOUT;
        self.publish_until(deadline, target, body, headers).await
    }

    async fn publish_until(
        &self,
        deadline: Instant,
        target: Target,
        body: Vec<u8>,
        headers: Option<FieldTable>,
    ) -> Result<(), BusError> {
        link::wait_until_up(&self.state, deadline).await?;
        let (reply, answer) = oneshot::channel();
        let lane = &self.jobs[target.kind()];
        let job = Job {
            target,
            body,
            headers,
            reply,
        };
        let handed_over = async {
            lane.send(job).await.map_err(|_| BusError::Closed)?;
            answer
                .await
                .unwrap_or_else(|_| Err(lost(&self.state.borrow())))
        };
        tokio::time::timeout_at(deadline, handed_over)
            .await
            .unwrap_or(Err(BusError::Unconfirmed))
    }
}

/// What a reply that never came means.
fn lost(state: &LinkState) -> BusError {
    match state {
        LinkState::Down(BusError::Closed) => BusError::Closed,
        LinkState::Up(_) | LinkState::Blocked(..) | LinkState::Down(_) => BusError::Away {
            reason: "the connection was lost before the confirmation".to_owned(),
        },
    }
}

/// Up when both connections are.
async fn watch_health(
    mut publishing: watch::Receiver<LinkState>,
    mut consuming: watch::Receiver<LinkState>,
    report: watch::Sender<BusHealth>,
    stop: CancellationToken,
) {
    loop {
        let now = [&mut publishing, &mut consuming]
            .into_iter()
            .find_map(|state| state.borrow_and_update().why_down())
            .map_or(BusHealth::Up, |reason| BusHealth::Down { reason });
        report.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        let changed = async {
            tokio::select! {
                changed = publishing.changed() => changed,
                changed = consuming.changed() => changed,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changed => if changed.is_err() { break },
        }
    }
    report.send_replace(BusHealth::Down {
        reason: BusError::Closed.to_string(),
    });
}
