//! Looks at Git repositories: a new commit on a watched ref becomes a revision by itself.
//!
//! What is due is claimed in rows, so that no two orchestrators look at the same. Deployments that
//! follow the same ref of the same repository share one look. Each look is a child process with a
//! time limit; a server that hangs holds up nothing but its own place. What was found is recorded
//! together with when to look again, and the store decides whether it is a new revision.
//!
//! - [`look`]: one look at one server
//! - [`pace`]: how long to wait before the next

mod look;
mod pace;
#[cfg(test)]
mod tests;

use crate::event::{EventSink, Wake};
use crate::settings::Settings;
use crate::store::{DuePoll, PollOutcome, Store, StoreError};
use look::{ChildLook, Look, LookError, Target};
use shared::source::CommitId;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Looks at once.
const AT_ONCE: usize = 8;
/// Repositories claimed at once: some wait for their place, and those that share a look find each
/// other.
const CLAIMED_AT_ONCE: usize = 64;
/// How long a claimed repository is ours, unless the claim is held on to: if this process dies with
/// it, somebody else looks after that.
const LEASE: Duration = Duration::from_secs(15);
/// How often claims are held on to: three chances before one lapses.
const HOLD: Duration = Duration::from_secs(4);
/// The longest time between two glances at what is due. Our own wake-ups do not tell what another
/// orchestrator wrote, perhaps before it died.
const SWEEP: Duration = Duration::from_secs(30);
/// The shortest: clocks of orchestrators and database differ a little.
const BREATH: Duration = Duration::from_millis(200);
/// How long to wait after the database did not answer.
const TROUBLE: Duration = Duration::from_secs(2);

/// The loop that looks at repositories.
pub(crate) struct Watcher {
    store: Store,
    look: Arc<dyn Look>,
    events: EventSink,
    wake: Arc<Wake>,
    places: Arc<Semaphore>,
}

/// The token of a claim, alive as long as a look for it, or what one found, is.
type Claim = Arc<Uuid>;

/// What one look is for, and what it found.
struct Looked {
    claim: Claim,
    polls: Vec<DuePoll>,
    found: Result<CommitId, LookError>,
}

/// Outcomes by the claim they belong to, until the database has taken them.
type Unrecorded = HashMap<Claim, Vec<PollOutcome>>;

/// The looks that are under way, and the claims they are for.
struct Looks {
    under_way: JoinSet<Looked>,
    claims: Vec<Weak<Uuid>>,
}

impl Watcher {
    /// A watcher that goes where the settings let it.
    pub(crate) fn new(
        settings: &Settings,
        store: Store,
        events: EventSink,
        wake: Arc<Wake>,
    ) -> Self {
        let look = ChildLook::new(
            settings.child_executable.clone(),
            settings.fetch_policy.clone(),
        );
        Self::looking(Arc::new(look), store, events, wake)
    }

    fn looking(look: Arc<dyn Look>, store: Store, events: EventSink, wake: Arc<Wake>) -> Self {
        Self {
            store,
            look,
            events,
            wake,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Runs until `stop`. Looks that are under way then are given up and their children killed;
    /// their claims lapse.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut looks = Looks {
            under_way: JoinSet::new(),
            claims: Vec::new(),
        };
        let mut unrecorded = Unrecorded::new();
        let mut due = Instant::now();
        let mut retry = Instant::now();
        let mut hold = tokio::time::interval(HOLD);
        loop {
            let has_room = looks.under_way.len() < AT_ONCE;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = hold.tick() => self.hold(&mut looks.claims).await,
                Some(looked) = looks.under_way.join_next(), if !looks.under_way.is_empty() => {
                    keep(&mut unrecorded, looked);
                    // What ended meanwhile shares the transaction.
                    while let Some(looked) = looks.under_way.try_join_next() {
                        keep(&mut unrecorded, looked);
                    }
                    retry = self.record(&mut unrecorded).await;
                }
                () = tokio::time::sleep_until(retry), if !unrecorded.is_empty() => retry = self.record(&mut unrecorded).await,
                () = self.wake.watcher.notified() => due = Instant::now() + or_trouble(self.until_next().await),
                () = tokio::time::sleep_until(due), if has_room => due = Instant::now() + or_trouble(self.begin(&mut looks).await),
            }
        }
    }

    /// Begins the looks that are due; how long until it is worth seeing what is due then.
    async fn begin(&self, looks: &mut Looks) -> Result<Duration, StoreError> {
        let (token, due) = self
            .store
            .git_polls_due(CLAIMED_AT_ONCE as u64, LEASE)
            .await?;
        let is_full = due.len() == CLAIMED_AT_ONCE;
        let claim = Claim::new(token);
        looks.claims.push(Arc::downgrade(&claim));
        for (target, polls) in by_target(due) {
            let (look, places) = (Arc::clone(&self.look), Arc::clone(&self.places));
            let claim = Arc::clone(&claim);
            looks.under_way.spawn(async move {
                // The semaphore is never closed: the place comes.
                let _place = places.acquire().await;
                let found = look.look(&target).await;
                told(&target, &found);
                Looked {
                    claim,
                    polls,
                    found,
                }
            });
        }
        if is_full {
            Ok(Duration::ZERO)
        } else {
            self.until_next().await
        }
    }

    /// Holds on to the claims that looks are under way for, and lets go of the others.
    async fn hold(&self, claims: &mut Vec<Weak<Uuid>>) {
        claims.retain(|claim| claim.strong_count() > 0);
        let held: Vec<Uuid> = claims
            .iter()
            .filter_map(Weak::upgrade)
            .map(|claim| *claim)
            .collect();
        if let Err(error) = self.store.git_polls_hold(&held, LEASE).await {
            // What lapses is looked at once more, and the first to record it wins.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "claims of repositories could not be held on to"
            );
        }
    }

    /// How long until the next repository is due.
    async fn until_next(&self) -> Result<Duration, StoreError> {
        let next = self.store.git_poll_next().await?;
        let wait = next.map_or(SWEEP, |next| {
            (next - shared::clock::now()).to_std().unwrap_or_default()
        });
        Ok(wait.clamp(BREATH, SWEEP))
    }

    /// Records what was found. What the database does not take is kept, to be tried again at the
    /// returned moment.
    async fn record(&self, unrecorded: &mut Unrecorded) -> Instant {
        shared::fail_point!("orchestrator::watch_git::after_look_before_record");
        for (claim, outcomes) in std::mem::take(unrecorded) {
            match self.store.git_polls_record(*claim, &outcomes).await {
                Ok(recorded) if recorded.steps.is_empty() => {}
                Ok(recorded) => {
                    self.events.steps(recorded.steps);
                    self.wake.dispatcher.notify_one();
                    self.wake.publisher.notify_one();
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what repositories have was not recorded"
                    );
                    if error.is_transient() {
                        unrecorded.insert(claim, outcomes);
                    }
                }
            }
        }
        // Each recorded look set its own next one.
        self.wake.watcher.notify_one();
        Instant::now() + TROUBLE
    }
}

/// Those that follow the same ref of the same repository, together.
fn by_target(due: Vec<DuePoll>) -> HashMap<Target, Vec<DuePoll>> {
    let mut targets: HashMap<Target, Vec<DuePoll>> = HashMap::new();
    for poll in due {
        let target = Target {
            url: poll.source.url.clone(),
            git_ref: poll.source.git_ref.clone(),
        };
        targets.entry(target).or_default().push(poll);
    }
    targets
}

/// For the log and the figures; people see it at the deployment.
fn told(target: &Target, found: &Result<CommitId, LookError>) {
    let result = match found {
        Ok(_) => "found",
        Err(error) => {
            tracing::debug!(url = %target.url, git_ref = target.git_ref.as_ref().map(tracing::field::display), %error, "a look failed");
            error.as_str()
        }
    };
    metrics::counter!("longshore_git_polls_total", "result" => result).increment(1);
}

fn keep(unrecorded: &mut Unrecorded, looked: Result<Looked, tokio::task::JoinError>) {
    match looked {
        Ok(Looked {
            claim,
            polls,
            found,
        }) => {
            let outcomes = polls.into_iter().map(|poll| outcome(poll, &found));
            unrecorded.entry(claim).or_default().extend(outcomes);
        }
        // Its claim lapses, and somebody looks again.
        Err(error) => tracing::error!(%error, "a look at a repository broke off"),
    }
}

/// What a look means for one deployment: its own pace.
fn outcome(poll: DuePoll, found: &Result<CommitId, LookError>) -> PollOutcome {
    let every = Duration::from_secs(poll.source.poll_seconds.into());
    let next_in = match found {
        Ok(_) => pace::after_success(every, rand::random()),
        Err(_) => pace::after_failure(every, poll.waited_after_failure, rand::random()),
    };
    let found = found.clone().map_err(|error| error.to_string());
    PollOutcome {
        deployment_id: poll.deployment_id,
        source: poll.source,
        found,
        next_in,
    }
}

/// The wait, or that for a database that does not answer.
fn or_trouble(wait: Result<Duration, StoreError>) -> Duration {
    wait.unwrap_or_else(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "which repositories are due is not known"
        );
        TROUBLE
    })
}
