//! One life of a process, from its start to its crash: the gate that all its effects pass.

use crate::dice::Dice;
use crate::trace::Trace;
use crate::weather::{Weather, Who};
use async_trait::async_trait;
use shared::simulation::{Away, Effect, Gate};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// One life of a process.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) who: Who,
    weather: Arc<Weather>,
    dice: Dice,
    trace: Trace,
    /// Cancelled when it dies.
    dead: CancellationToken,
    /// Effects that it may still have before it dies.
    left: AtomicU64,
}

impl Life {
    /// A life that dies by itself before its `dies_at`th effect, if at all.
    pub(crate) fn new(
        who: Who,
        weather: Arc<Weather>,
        dice: Dice,
        trace: Trace,
        dies_at: Option<u64>,
    ) -> Self {
        Self {
            who,
            weather,
            dice,
            trace,
            dead: CancellationToken::new(),
            left: AtomicU64::new(dies_at.unwrap_or(u64::MAX)),
        }
    }

    /// It dies here and now: nothing of it has an effect from now on.
    pub(crate) fn end(&self) {
        self.dead.cancel();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Returns once it is dead.
    pub(crate) async fn over(&self) {
        self.dead.cancelled().await;
    }

    /// It will not die by itself any more.
    pub(crate) fn spare(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    /// Goes on only if it is alive.
    pub(crate) async fn go_on(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes note of an effect; the last one is never seen by anybody.
    fn spend(&self, effect: Effect) {
        self.trace.effect(self.who, effect);
        let left = self.left.load(Ordering::Relaxed);
        if left == u64::MAX {
            return;
        }
        if left == 0 {
            self.trace
                .note(|| format!("{} dies at {effect:?}", self.who));
            self.end();
        }
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
    }

    /// How long an effect takes, in milliseconds: most often next to nothing.
    fn takes(&self, effect: Effect) -> u64 {
        let slow = self.weather.sky().chaos.slow;
        match effect {
            Effect::Database | Effect::DatabaseCommitted | Effect::Disk => {
                if self.dice.happens(slow) {
                    self.dice.between(20, 1500)
                } else {
                    self.dice.between(0, 9).saturating_sub(6)
                }
            }
            // What these take is up to the broker and the machine.
            Effect::DiskWritten
            | Effect::Bus
            | Effect::BusDone
            | Effect::Engine
            | Effect::EngineDone => 0,
        }
    }

    fn fails(&self, effect: Effect) -> bool {
        let sky = self.weather.sky();
        match effect {
            Effect::Database => sky.database_is_away,
            Effect::DatabaseCommitted => {
                sky.database_is_away || self.dice.happens(sky.chaos.commit_unheard)
            }
            Effect::Disk => sky.full_disks.contains(&self.who),
            _ => false,
        }
    }
}

#[async_trait]
impl Gate for Life {
    async fn pass(&self, effect: Effect) -> Result<(), Away> {
        self.go_on().await;
        self.spend(effect);
        self.go_on().await;
        let millis = self.takes(effect);
        if millis > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
            self.go_on().await;
        }
        if self.fails(effect) {
            Err(Away)
        } else {
            Ok(())
        }
    }
}
