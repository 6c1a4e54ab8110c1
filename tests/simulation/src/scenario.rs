//! What a seed stands for: who is there, what goes wrong, and how often.

use crate::dice::Dice;
use std::time::Duration;

/// How often things go wrong by themselves, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chaos {
    /// A published message is lost, and its publisher hears nothing.
    pub(crate) lost: u32,
    /// A published message arrives, and its publisher hears nothing.
    pub(crate) unheard: u32,
    /// A published message arrives twice.
    pub(crate) doubled: u32,
    /// A delivery comes to nothing and is made again later, after others.
    pub(crate) late: u32,
    /// An acknowledgement is lost: what was done is delivered again.
    pub(crate) unacknowledged: u32,
    /// Telemetry or an event is lost.
    pub(crate) unsaid: u32,
    /// A database or disk takes its time.
    pub(crate) slow: u32,
    /// A transaction is committed and its answer is lost.
    pub(crate) commit_unheard: u32,
}

/// Kinds of faults, each of which can be left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// A process dies at some effect or moment, and is started again.
    pub(crate) crashes: bool,
    /// A process is told to end, does, and is started again.
    pub(crate) stops: bool,
    /// The broker goes away for a while and keeps what it has.
    pub(crate) broker_away: bool,
    /// A node is cut from the broker, also for longer than it takes to be lost.
    pub(crate) partitions: bool,
    /// The database goes away for a while.
    pub(crate) database_away: bool,
    /// A container engine goes away for a while.
    pub(crate) engine_away: bool,
    /// A container crashes and is started again by its engine.
    pub(crate) container_crashes: bool,
    /// A container is removed by hand.
    pub(crate) container_removed: bool,
    /// A node's disk is full for a while.
    pub(crate) disk_full: bool,
    /// The broker loses the work queues with what is in them.
    pub(crate) work_wiped: bool,
    /// The broker loses all it has, also reports that it had confirmed.
    pub(crate) broker_wiped: bool,
    /// A node loses its journal while it is down.
    pub(crate) journal_wiped: bool,
    /// A machine is gone for good, with its containers.
    pub(crate) node_gone: bool,
    /// Nodes are cordoned, drained, removed while they are lost, and taken back.
    pub(crate) nodes_operated: bool,
}

/// What is asked of the product beside what always is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// A node that comes back removes what it runs of a revision that was settled without it.
    pub(crate) stale_containers_go: bool,
}

impl Demands {
    /// What this release promises.
    pub(crate) const PROMISED: Self = Self {
        stale_containers_go: true,
    };
}

impl Faults {
    /// What this release promises to survive.
    pub(crate) const PROMISED: Self = Self {
        crashes: true,
        stops: true,
        broker_away: true,
        partitions: true,
        database_away: true,
        engine_away: true,
        container_crashes: true,
        container_removed: true,
        disk_full: true,
        work_wiped: true,
        broker_wiped: true,
        journal_wiped: true,
        node_gone: true,
        nodes_operated: true,
    };
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) orchestrators: usize,
    pub(crate) nodes: usize,
    pub(crate) deployments: usize,
    /// For how long things go wrong and users ask for things.
    pub(crate) storm: Duration,
    pub(crate) chaos: Chaos,
    pub(crate) faults: Faults,
    pub(crate) demands: Demands,
    /// How many faults beside those of single messages.
    pub(crate) strikes: usize,
}

impl Scenario {
    pub(crate) fn of(seed: u64, faults: Faults, demands: Demands) -> Self {
        let dice = Dice::new(seed, "scenario");
        // A third of the runs has a calm sea, where only processes die: there a fault has a
        // single cause. The others have everything at once.
        let rough = dice.place(3) as u32;
        let chaos = Chaos {
            lost: 20 * rough,
            unheard: 20 * rough,
            doubled: 20 * rough,
            late: 40 * rough,
            unacknowledged: 20 * rough,
            unsaid: 50 * rough,
            slow: 10 * rough,
            commit_unheard: 5 * rough,
        };
        Self {
            seed,
            orchestrators: 1 + dice.place(3),
            nodes: 2 + dice.place(3),
            deployments: 4 + dice.place(9),
            storm: Duration::from_secs(dice.between(20, 60)),
            chaos,
            faults,
            demands,
            strikes: dice.place(9),
        }
    }
}
