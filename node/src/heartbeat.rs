//! Heartbeats: that this node is alive, whether it takes work, what it has and what it uses.

use crate::core::{Core, EngineState};
use chrono::{DateTime, Utc};
use shared::bus::{Address, Bus};
use shared::clock;
use shared::message::{Capacity, Heartbeat, Load, TelemetryItem, TelemetryTopic, encode};
use shared::spec::Resources;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The time between two heartbeats when nothing changes.
const EVERY: Duration = Duration::from_secs(5);

/// The least time between two heartbeats, however much changes.
const AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// Sends heartbeats until the node stops. One that the bus does not take is not sent again: the
/// next one says more.
pub(crate) async fn run(core: Arc<Core>, bus: Arc<dyn Bus>) {
    let started_at = clock::now();
    let mut engine = core.engine.clone();
    let mut trouble = core.journal.trouble();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bus_health = bus.health();
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            _ = tick.tick() => {}
            () = core.changed.notified() => {}
            Ok(()) = engine.changed() => {}
            Ok(()) = trouble.changed() => {}
            // Whoever listens on the other side has missed us.
            Ok(()) = bus_health.changed() => {}
        }
        let heartbeat = heartbeat(&core, started_at);
        let item = TelemetryItem::Heartbeat(Box::new(heartbeat));
        let address = Address::Telemetry(TelemetryTopic::Heartbeat);
        if let Some(Err(error)) = core
            .stop
            .run_until_cancelled(bus.publish(address, encode(&[item])))
            .await
        {
            tracing::debug!(%error, "a heartbeat was not taken");
        }
        let _ = core
            .stop
            .run_until_cancelled(tokio::time::sleep(AT_MOST_EVERY))
            .await;
    }
}

fn heartbeat(core: &Core, started_at: DateTime<Utc>) -> Heartbeat {
    let settings = &core.settings;
    let (engine, away) = match &*core.engine.borrow() {
        EngineState::Up { version } => (Some(version.clone()), None),
        EngineState::Down { reason } => (
            None,
            Some(format!("the container engine does not answer: {reason}")),
        ),
        EngineState::Unknown => (
            None,
            Some("the container engine has not answered yet".to_owned()),
        ),
    };
    let trouble = core.journal.trouble().borrow().clone();
    let problems: Vec<String> = away.into_iter().chain(trouble).collect();
    let memory = Memory::read();
    Heartbeat {
        node: settings.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        advertise: settings.advertise.clone(),
        labels: settings.labels.clone(),
        ready: problems.is_empty(),
        detail: (!problems.is_empty()).then(|| problems.join("; ")),
        engine,
        capacity: Capacity {
            cpu_millis: crate::config::cores().saturating_mul(1000),
            memory_bytes: memory.total,
            slots: settings.slots,
        },
        load: load(core, memory),
        started_at,
        at: clock::now(),
    }
}

fn load(core: &Core, memory: Memory) -> Load {
    let free = u32::try_from(core.slots.available_permits()).unwrap_or(u32::MAX);
    let mut load = Load {
        memory_used_bytes: memory.total.saturating_sub(memory.available),
        busy_slots: core.settings.slots.saturating_sub(free),
        ..Load::default()
    };
    core.journal.read(|state| {
        for running in state
            .deployments
            .values()
            .filter_map(|record| record.current.as_ref())
        {
            for (spec, service) in running.spec.services.iter().zip(&running.services) {
                if !service.stopped {
                    declare(&mut load, &spec.resources);
                }
            }
        }
    });
    load
}

/// Counts a service that runs. A journal may hold sizes that no release would accept any more.
fn declare(load: &mut Load, resources: &Resources) {
    let memory = resources.memory.map_or(0, |memory| memory.0);
    let cpus = resources.cpus.map_or(0, |cpus| cpus.0);
    load.running = load.running.saturating_add(1);
    load.memory_declared_bytes = load.memory_declared_bytes.saturating_add(memory);
    load.cpu_declared_millis = load.cpu_declared_millis.saturating_add(cpus);
}

/// The memory of this machine in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    fn read() -> Self {
        #[cfg(feature = "simulation")]
        if shared::simulation::is_entered() {
            return Self::default();
        }
        // Not there on a machine that is no Linux: nothing is known then.
        std::fs::read_to_string("/proc/meminfo")
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    fn parse(meminfo: &str) -> Self {
        let field = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let bytes = |name| field(name).map_or(0, |kib| kib.saturating_mul(1024));
        Self {
            total: bytes("MemTotal:"),
            available: bytes("MemAvailable:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:        4028312 kB\nMemFree:  1 kB\nMemAvailable:    2000000 kB\n";
        assert_eq!(
            Memory::parse(text),
            Memory {
                total: 4_028_312 * 1024,
                available: 2_000_000 * 1024
            }
        );
        assert_eq!(Memory::parse("nonsense"), Memory::default());
    }

    #[test]
    fn what_is_declared_has_an_end() {
        let mut load = Load::default();
        let resources = Resources {
            memory: Some(shared::spec::ByteSize(u64::MAX)),
            cpus: Some(shared::spec::CpuCount(u32::MAX)),
            ..Resources::default()
        };
        declare(&mut load, &resources);
        declare(&mut load, &resources);
        assert_eq!(
            (
                load.running,
                load.memory_declared_bytes,
                load.cpu_declared_millis
            ),
            (2, u64::MAX, u32::MAX)
        );
    }
}
