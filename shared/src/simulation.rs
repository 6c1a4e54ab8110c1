//! Time, chance and ids of a simulated world, and the gate that all effects of one process pass.
//!
//! Only with the feature `simulation`. A world lives on one thread: [`World::enter`] makes
//! [`crate::clock`], [`crate::chance`] and new ids of that thread its own until it is dropped, so
//! that the same seed always gives the same run. Threads that entered no world notice nothing.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use tokio::time::Instant;
use uuid::Uuid;

thread_local! {
    static WORLD: RefCell<Option<State>> = const { RefCell::new(None) };
}

struct State {
    /// What the clock said when the world began, and when that was.
    began: (DateTime<Utc>, Instant),
    rng: StdRng,
    /// How many ids were made: later ones sort later, also within a millisecond.
    ids: u64,
    broken: Option<Rule>,
}

/// A simulated world on this thread; dropping it leaves it.
#[derive(Debug)]
pub struct World(());

impl World {
    /// Enters a world: its clock begins at `began` and follows tokio's, its chance follows from
    /// `seed`. Needs a runtime, whose clock should be paused.
    #[must_use]
    pub fn enter(seed: u64, began: DateTime<Utc>) -> Self {
        let state = State {
            began: (began, Instant::now()),
            rng: StdRng::seed_from_u64(seed),
            ids: 0,
            broken: None,
        };
        WORLD.with_borrow_mut(|world| *world = Some(state));
        Self(())
    }

    /// Breaks a rule of the product in this world, to see that somebody notices.
    #[must_use]
    pub fn breaking(self, rule: Option<Rule>) -> Self {
        WORLD.with_borrow_mut(|world| {
            if let Some(world) = world {
                world.broken = rule;
            }
        });
        self
    }
}

/// Whether this thread is in a world: what it reads of the machine must not differ between two runs.
#[must_use]
pub fn is_entered() -> bool {
    WORLD.with_borrow(Option::is_some)
}

/// A rule that the product keeps, and that a world can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Reports of an older epoch, of another node, or applied before change nothing.
    Fence,
    /// A work request that no node has taken is sent again.
    Outbox,
}

/// Whether this thread's world breaks a rule; never outside of one.
#[must_use]
pub fn is_broken(rule: Rule) -> bool {
    WORLD.with_borrow(|world| {
        world
            .as_ref()
            .is_some_and(|world| world.broken == Some(rule))
    })
}

impl Drop for World {
    fn drop(&mut self) {
        WORLD.with_borrow_mut(|world| *world = None);
    }
}

/// What the clock of this thread's world says; nothing outside of one.
pub(crate) fn now() -> Option<DateTime<Utc>> {
    WORLD.with_borrow(|world| world.as_ref().map(State::now))
}

/// A generator that follows from the world's seed; nothing outside of one.
pub(crate) fn rng() -> Option<StdRng> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(|world| StdRng::from_rng(&mut world.rng)))
}

/// A new id of the world; nothing outside of one.
pub(crate) fn uuid() -> Option<Uuid> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(State::uuid))
}

impl State {
    fn now(&self) -> DateTime<Utc> {
        let (began, at) = self.began;
        // A world lasts minutes; a time that no date has is out of reach.
        began + TimeDelta::from_std(at.elapsed()).unwrap_or_default()
    }

    fn uuid(&mut self) -> Uuid {
        self.ids += 1;
        let mut bytes = [0; 10];
        // The first byte shares its upper half with the version.
        bytes[1..6].copy_from_slice(&self.ids.to_be_bytes()[3..]);
        self.rng.fill(&mut bytes[6..]);
        let millis = u64::try_from(self.now().timestamp_millis()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

/// What stands between one life of a process and the world: every effect passes it, before it
/// happens and before its answer is heard.
///
/// When the process dies, nothing passes any more: what was under way never goes on, as if it had
/// never been waited for. Its tasks are then harmless, whatever they still believe.
#[async_trait]
pub trait Gate: Send + Sync + std::fmt::Debug + 'static {
    /// Waits as long as the effect takes; for ever when the process dies meanwhile.
    ///
    /// # Errors
    /// [`Away`] when what the effect is on does not answer now.
    async fn pass(&self, effect: Effect) -> Result<(), Away>;
}

/// An effect of a process on something that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A transaction is about to begin, or something to be read outside of one.
    Database,
    /// A transaction was committed; its answer is on the way.
    DatabaseCommitted,
    /// The journal's changes are about to be written.
    Disk,
    /// They are on the disk; the answer is on the way.
    DiskWritten,
    /// Something is about to be sent to the broker, or asked of it.
    Bus,
    /// The broker has done it; its answer is on the way.
    BusDone,
    /// Something is about to be asked of the container engine.
    Engine,
    /// The engine has done it; its answer is on the way.
    EngineDone,
}

/// What an effect is on does not answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not answer")]
pub struct Away;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeploymentId, RevisionId};
    use std::time::Duration;

    async fn life(seed: u64) -> (Vec<RevisionId>, Vec<u32>, DateTime<Utc>) {
        let _world = World::enter(seed, DateTime::UNIX_EPOCH);
        let ids = (0..100).map(|_| RevisionId::new()).collect();
        let chance = (0..3).map(|_| crate::chance::rng().random()).collect();
        tokio::time::sleep(Duration::from_secs(60)).await;
        (ids, chance, crate::clock::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_gives_the_same_world_again() {
        let one = life(7).await;
        assert_eq!(one, life(7).await);
        assert_ne!(one, life(8).await);
        assert!(one.0.is_sorted());
        assert_eq!(one.0[0].0.get_version_num(), 7);
        assert_eq!(one.2, DateTime::UNIX_EPOCH + TimeDelta::seconds(60));
    }

    #[tokio::test]
    async fn outside_of_a_world_everything_is_real() {
        drop(World::enter(7, DateTime::UNIX_EPOCH));
        assert!(crate::clock::now() > DateTime::UNIX_EPOCH + TimeDelta::days(365));
        assert_ne!(DeploymentId::new(), DeploymentId::new());
        assert_ne!(
            crate::chance::rng().random::<u64>(),
            crate::chance::rng().random::<u64>()
        );
    }
}
