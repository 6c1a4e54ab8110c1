//! Service logs for readers: lines of running containers, as long as the reader renews its wish.

use crate::core::Core;
use crate::journal::RunningService;
use crate::log_sink::LogSink;
use crate::runtime::{LONGEST_TAIL, LogsFrom};
use shared::id::{DeploymentId, StreamId};
use shared::message::{LogSubject, WorkAction, WorkRequest};
use shared::name::ServiceName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many readers a node serves at once.
const READERS: usize = 64;

/// The longest lease.
const LONGEST_LEASE: Duration = Duration::from_secs(300);

/// The time between two looks for the containers of a service whose log has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The longest time between two tries to read on a log to which nothing is added: the container may be
/// stopped for good, and each try costs the engine something.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The readers of a node.
#[derive(Clone, Default)]
pub(crate) struct Followers {
    readers: Arc<Mutex<HashMap<StreamId, Reader>>>,
}

struct Reader {
    until: watch::Sender<Instant>,
    stop: CancellationToken,
}

impl Followers {
    /// Does what a reader asked for. Never waits.
    pub(crate) fn obey(&self, core: &Arc<Core>, request: WorkRequest) {
        match request.action {
            WorkAction::FollowLogs {
                stream,
                service,
                tail,
                lease_seconds,
            } => {
                let lease = Duration::from_secs(lease_seconds.into()).min(LONGEST_LEASE);
                let wish = Wish {
                    stream,
                    deployment_id: request.deployment_id,
                    service,
                    tail: tail.min(LONGEST_TAIL),
                };
                self.follow(core, wish, Instant::now() + lease);
            }
            WorkAction::UnfollowLogs { stream } => {
                if let Some(reader) = self.lock().remove(&stream) {
                    reader.stop.cancel();
                }
            }
            // The journalled kinds never come here.
            _ => tracing::debug!(work_id = %request.id, "not a reader's wish"),
        }
    }

    fn follow(&self, core: &Arc<Core>, wish: Wish, until: Instant) {
        let mut readers = self.lock();
        if let Some(reader) = readers.get(&wish.stream) {
            reader.until.send_replace(until);
            return;
        }
        if readers.len() >= READERS {
            tracing::warn!(stream = %wish.stream, "too many readers of service logs; this one waits for a place");
            // Its wish is renewed, and finds a place when somebody has gone.
            LogSink::new(LogSubject::Service(wish.stream), 0, core.telemetry.clone()).system(format!(
                "the node serves {READERS} readers of logs already: waiting until one of them goes away"
            ));
            return;
        }
        let (sender, lease) = watch::channel(until);
        let stop = core.stop.child_token();
        let stream = wish.stream;
        readers.insert(
            stream,
            Reader {
                until: sender,
                stop: stop.clone(),
            },
        );
        let (core, followers) = (core.clone(), self.clone());
        core.clone().tasks.spawn(async move {
            let log = LogSink::new(LogSubject::Service(stream), 0, core.telemetry.clone());
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = ends(lease) => {}
                () = send_lines(&core, &wish, &log) => {}
            }
            stop.cancel();
            followers.lock().remove(&stream);
            log.end().await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader wants.
struct Wish {
    stream: StreamId,
    deployment_id: DeploymentId,
    service: Option<ServiceName>,
    tail: u32,
}

/// Waits until a lease has run out.
async fn ends(mut lease: watch::Receiver<Instant>) {
    loop {
        let until = *lease.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            renewed = lease.changed() => if renewed.is_err() { return },
        }
    }
}

/// The log of one container, as far as a reader has it.
struct Reading {
    /// Where it goes on.
    from: LogsFrom,
    /// The time until it is tried again once it has ended.
    pause: Duration,
    /// Ends the task that reads it, while there is one.
    stop: Option<CancellationToken>,
}

/// Sends what the wished services print, over restarts and new revisions, until it is dropped.
async fn send_lines(core: &Arc<Core>, wish: &Wish, log: &LogSink) {
    let mut readings: HashMap<String, Reading> = HashMap::new();
    // Dropping it ends every task that reads for this reader.
    let mut tasks = tokio::task::JoinSet::new();
    let mut tail = wish.tail;
    loop {
        let services = wished(core, wish);
        readings.retain(|container, reading| {
            let is_current = services
                .iter()
                .any(|service| service.container == *container);
            if let (false, Some(stop)) = (is_current, &reading.stop) {
                stop.cancel();
            }
            is_current
        });
        for service in services {
            let reading = readings
                .entry(service.container.clone())
                .or_insert_with(|| Reading {
                    from: LogsFrom::Tail(tail),
                    pause: Duration::ZERO,
                    stop: None,
                });
            if reading.stop.is_some() {
                continue;
            }
            let stop = CancellationToken::new();
            reading.stop = Some(stop.clone());
            let (mut from, pause) = (reading.from, reading.pause);
            let (core, log) = (core.clone(), log.of_service(service.name.clone()));
            tasks.spawn(async move {
                tokio::time::sleep(pause).await;
                let followed = core
                    .runtime
                    .follow(&service.container, &mut from, &log, &stop)
                    .await;
                (service.container, from, followed)
            });
        }
        // What starts from now on is new from its first line on.
        tail = LONGEST_TAIL;
        tokio::select! {
            Some(read) = tasks.join_next() => {
                let Ok((container, from, followed)) = read else { continue };
                if let Err(error) = followed {
                    tracing::debug!(%container, %error, "a service log ended");
                }
                if let Some(reading) = readings.get_mut(&container) {
                    reading.ended_at(from);
                }
            }
            () = tokio::time::sleep(LOOK_AGAIN * 2) => {}
        }
    }
}

impl Reading {
    /// It ended, with its container's process or because it could not be read.
    fn ended_at(&mut self, from: LogsFrom) {
        self.pause = if from == self.from {
            (self.pause * 2).clamp(LOOK_AGAIN, LONGEST_PAUSE)
        } else {
            LOOK_AGAIN
        };
        self.from = from;
        self.stop = None;
    }
}

fn wished(core: &Core, wish: &Wish) -> Vec<RunningService> {
    core.journal.read(|state| {
        let running = state
            .deployments
            .get(&wish.deployment_id)
            .and_then(|record| record.current.as_ref());
        let services = running
            .map(|running| running.services.clone())
            .unwrap_or_default();
        services
            .into_iter()
            .filter(|service| {
                wish.service
                    .as_ref()
                    .is_none_or(|name| *name == service.name)
            })
            .collect()
    })
}
