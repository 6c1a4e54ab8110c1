//! Faults beside those of single messages: what strikes, and when.

use crate::dice::Dice;
use crate::weather::Who;
use crate::world::World;
use std::sync::Arc;
use std::time::Duration;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Crash,
    Stop,
    BrokerAway,
    Cut,
    DatabaseAway,
    EngineAway,
    ContainerCrash,
    ContainerRemoved,
    DiskFull,
    WorkWiped,
    BrokerWiped,
    JournalWiped,
    NodeGone,
}

/// Everything that may strike in this run.
fn possible(world: &World) -> Vec<Strike> {
    let faults = world.scenario.faults;
    let all = [
        (faults.crashes, Strike::Crash),
        (faults.stops, Strike::Stop),
        (faults.broker_away, Strike::BrokerAway),
        (faults.partitions, Strike::Cut),
        (faults.database_away, Strike::DatabaseAway),
        (faults.engine_away, Strike::EngineAway),
        (faults.container_crashes, Strike::ContainerCrash),
        (faults.container_removed, Strike::ContainerRemoved),
        (faults.disk_full, Strike::DiskFull),
        (faults.work_wiped, Strike::WorkWiped),
        (faults.broker_wiped, Strike::BrokerWiped),
        (faults.journal_wiped, Strike::JournalWiped),
        (faults.node_gone, Strike::NodeGone),
    ];
    all.into_iter()
        .filter_map(|(is_on, strike)| is_on.then_some(strike))
        .collect()
}

/// Lets everything strike that this run has.
pub(crate) fn begin(world: &Arc<World>) {
    let possible = possible(world);
    if possible.is_empty() {
        return;
    }
    let storm = u64::try_from(world.scenario.storm.as_millis()).unwrap_or(u64::MAX);
    for number in 0..world.scenario.strikes {
        let dice = Dice::new(world.scenario.seed, &format!("strike {number}"));
        let strike = possible[dice.place(possible.len())];
        let at = dice.millis(0, storm);
        let world = Arc::clone(world);
        tokio::spawn(async move {
            tokio::time::sleep(at).await;
            if world.is_stormy() {
                hit(&world, strike, &dice).await;
            }
        });
    }
}

async fn hit(world: &World, strike: Strike, dice: &Dice) {
    let slot = &world.slots[dice.place(world.slots.len())];
    let nodes: Vec<_> = world.nodes().collect();
    let node = nodes[dice.place(nodes.len())];
    // Most things pass quickly; some take longer than the patience of those who wait for them.
    let long = dice.happens(250);
    let lasts = dice.millis(50, if long { 45_000 } else { 8000 });
    let who = |who: Who| format!("{who}");
    world.trace.note(|| {
        format!(
            "strikes: {strike:?} ({} or {}, {lasts:?})",
            who(slot.who),
            who(node.who)
        )
    });
    match strike {
        Strike::Crash => slot.kill(),
        Strike::Stop => slot.tell_to_stop(),
        Strike::BrokerAway => {
            world.broker.away(true);
            pause(lasts).await;
            world.broker.away(false);
        }
        Strike::Cut => {
            world.broker.cut(slot.who, true);
            pause(lasts).await;
            world.broker.cut(slot.who, false);
        }
        Strike::DatabaseAway => {
            world.weather.sky().database_is_away = true;
            pause(lasts).await;
            world.weather.sky().database_is_away = false;
        }
        Strike::EngineAway => {
            node.machine.engine_is_away(true);
            pause(lasts).await;
            node.machine.engine_is_away(false);
        }
        Strike::DiskFull => {
            world.weather.sky().full_disks.insert(node.who);
            pause(lasts).await;
            world.weather.sky().full_disks.remove(&node.who);
        }
        Strike::ContainerCrash | Strike::ContainerRemoved => {
            let containers = node.machine.containers();
            if containers.is_empty() {
                return;
            }
            let facts = &containers[dice.place(containers.len())].facts;
            world.disturb(facts.deployment_id);
            let id = &facts.id;
            if strike == Strike::ContainerCrash {
                node.machine.crash(id, 137);
            } else {
                node.machine.remove_by_hand(id);
            }
        }
        Strike::WorkWiped => world.broker.wipe(false),
        Strike::BrokerWiped => {
            // It lost its disk, and what a broker starts with then is empty.
            world.broker.away(true);
            world.broker.wipe(true);
            pause(lasts).await;
            world.broker.away(false);
        }
        Strike::JournalWiped => {
            node.kill();
            node.disk.wipe();
        }
        // Somewhere must be left to go to.
        Strike::NodeGone if nodes.len() > 1 => node.lose(),
        Strike::NodeGone => {}
    }
}

async fn pause(lasts: Duration) {
    tokio::time::sleep(lasts).await;
}
