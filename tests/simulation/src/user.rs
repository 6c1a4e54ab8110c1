//! Users: each has one deployment, asks for things at random times, and remembers what was promised.

use crate::dice::Dice;
use crate::world::World;
use orchestrator::command::{CreateDeployment, NewGitSource, NewSource};
use orchestrator::view::DeploymentView;
use orchestrator::{CommandError, Orchestrator};
use shared::id::{DeploymentId, RevisionId};
use shared::status::DesiredState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a user waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one user was promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    pub(crate) name: String,
    /// The deployment, once its making was acknowledged.
    pub(crate) id: Option<DeploymentId>,
    /// Every revision that the user was told of.
    pub(crate) revisions: Vec<RevisionId>,
    /// What was acknowledged last.
    pub(crate) desired: Option<DesiredState>,
    /// Something was asked for after that and never answered: it may have happened.
    pub(crate) is_unsure: bool,
}

/// Everything that users were promised. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises(Arc<Mutex<Vec<Promise>>>);

impl Promises {
    pub(crate) fn all(&self) -> Vec<Promise> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a user may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Create,
    Redeploy,
    Rollback,
    Cancel,
    Stop,
    Start,
    Restart,
    Destroy,
}

/// How a wish was answered.
enum Heard {
    Done(Box<DeploymentView>),
    /// Done, and nothing new is known of the deployment.
    DoneToo,
    /// It did not happen.
    Refused,
    /// Nobody knows whether it happened.
    Nothing,
}

/// Lets every user of this run act.
pub(crate) fn begin(world: &Arc<World>) -> Promises {
    let promises = Promises::default();
    for number in 0..world.scenario.deployments {
        let promise = Promise {
            name: format!("app-{number}"),
            ..Promise::default()
        };
        promises.lock().push(promise);
        let user = User {
            world: Arc::clone(world),
            promises: promises.clone(),
            number,
            url: format!("https://forge.example/app-{number}.git"),
            dice: Dice::new(world.scenario.seed, &format!("user {number}")),
        };
        tokio::spawn(user.act());
    }
    promises
}

struct User {
    world: Arc<World>,
    promises: Promises,
    number: usize,
    url: String,
    dice: Dice,
}

impl User {
    async fn act(self) {
        self.world.repositories.push(&self.url, &self.dice);
        let storm = u64::try_from(self.world.scenario.storm.as_millis()).unwrap_or(u64::MAX);
        let wishes = self.dice.between(0, 6);
        tokio::time::sleep(self.dice.millis(0, storm / 2)).await;
        self.wish(Wish::Create).await;
        for _ in 0..wishes {
            tokio::time::sleep(self.dice.millis(0, storm / 4)).await;
            if !self.world.is_stormy() {
                return;
            }
            let wish = match self.dice.between(0, 12) {
                0..=3 => Wish::Redeploy,
                4 => Wish::Rollback,
                5 | 6 => Wish::Cancel,
                7 | 8 => Wish::Stop,
                9 | 10 => Wish::Start,
                11 => Wish::Restart,
                _ => Wish::Destroy,
            };
            self.wish(wish).await;
        }
    }

    /// Asks for something, again while nobody says that it was done or refused, a few times.
    async fn wish(&self, wish: Wish) {
        let is_made = self.promise(|promise| promise.id.is_some());
        if is_made == (wish == Wish::Create) {
            return;
        }
        if let (Wish::Stop, Some(id)) = (wish, self.promise(|promise| promise.id)) {
            self.world.stop(id);
        }
        if wish == Wish::Redeploy {
            self.world.repositories.push(&self.url, &self.dice);
        }
        let was_unsure = self.promise(|promise| promise.is_unsure);
        for _ in 0..4 {
            let Some((who, orchestrator)) = self.world.orchestrator(&self.dice) else {
                tokio::time::sleep(self.dice.millis(100, 3000)).await;
                continue;
            };
            self.promise(|promise| promise.is_unsure = true);
            let asked = Box::pin(self.ask(&orchestrator, wish));
            let heard = tokio::time::timeout(PATIENCE, asked)
                .await
                .unwrap_or(Heard::Nothing);
            self.world.trace.note(|| {
                let said = match &heard {
                    Heard::Done(_) | Heard::DoneToo => "done",
                    Heard::Refused => "refused",
                    Heard::Nothing => "no answer",
                };
                format!("user {} asks {who}: {wish:?}: {said}", self.number)
            });
            if self.remember(wish, heard, was_unsure) {
                return;
            }
            tokio::time::sleep(self.dice.millis(100, 3000)).await;
        }
    }

    /// Keeps what was promised; `true` when there is nothing to ask again.
    fn remember(&self, wish: Wish, heard: Heard, was_unsure: bool) -> bool {
        self.promise(|promise| match heard {
            Heard::Done(view) => {
                promise.id = Some(view.id);
                promise.desired = Some(match wish {
                    Wish::Stop => DesiredState::Stopped,
                    Wish::Destroy => DesiredState::Destroyed,
                    _ => DesiredState::Running,
                });
                promise.revisions.extend(view.latest_revision_id);
                promise.is_unsure = false;
                true
            }
            Heard::DoneToo => {
                // What an earlier wish may have done is no clearer.
                promise.is_unsure = was_unsure;
                true
            }
            // What an earlier try may have done stays unsure.
            Heard::Refused => true,
            Heard::Nothing => false,
        })
    }

    async fn ask(&self, orchestrator: &Orchestrator, wish: Wish) -> Heard {
        let commands = orchestrator.commands();
        let Some(id) = self.promise(|promise| promise.id) else {
            return self.heard(commands.create(self.new_deployment()).await);
        };
        let services = Vec::new;
        let answer = match wish {
            Wish::Create => return Heard::Refused,
            Wish::Cancel => return self.cancel(orchestrator).await,
            Wish::Redeploy => commands.redeploy(id, None).await,
            Wish::Rollback => commands.rollback(id, None).await,
            Wish::Stop => commands.stop(id, services()).await,
            Wish::Start => commands.start(id, services()).await,
            Wish::Restart => commands.restart(id, services()).await,
            Wish::Destroy => commands.destroy(id, true).await,
        };
        self.heard(answer)
    }

    async fn cancel(&self, orchestrator: &Orchestrator) -> Heard {
        let Some(latest) = self.promise(|promise| promise.revisions.last().copied()) else {
            return Heard::Refused;
        };
        match orchestrator.commands().cancel_revision(latest).await {
            Ok(_) => Heard::DoneToo,
            Err(error) => self.excuse(&error),
        }
    }

    fn new_deployment(&self) -> CreateDeployment {
        CreateDeployment {
            name: format!("app-{}", self.number),
            source: NewSource {
                git: Some(NewGitSource {
                    url: self.url.clone(),
                    // Nothing looks for new commits: that would start processes.
                    poll_seconds: Some(0),
                    ..NewGitSource::default()
                }),
                image: None,
            },
            ..CreateDeployment::default()
        }
    }

    fn heard(&self, answer: Result<DeploymentView, CommandError>) -> Heard {
        match answer {
            Ok(view) => Heard::Done(Box::new(view)),
            Err(error) => self.excuse(&error),
        }
    }

    fn excuse(&self, error: &CommandError) -> Heard {
        match error {
            CommandError::Unavailable { .. } => Heard::Nothing,
            CommandError::Conflict { .. } => Heard::Refused,
            // Only what was destroyed may be gone.
            CommandError::NotFound { .. }
                if self.promise(|promise| {
                    promise.is_unsure || promise.desired == Some(DesiredState::Destroyed)
                }) =>
            {
                Heard::Refused
            }
            error => {
                self.world
                    .trace
                    .complain(format!("user {} was told: {error:?}", self.number));
                Heard::Refused
            }
        }
    }

    fn promise<T>(&self, look: impl FnOnce(&mut Promise) -> T) -> T {
        look(&mut self.promises.lock()[self.number])
    }
}
