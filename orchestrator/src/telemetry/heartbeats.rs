//! Heartbeats in: the first of an unknown name registers a node and gives it its work queue. What nodes
//! say that they hold renews the leases of that work.

use super::{Telemetry, take};
use shared::bus::{BusHealth, Consumer};
use shared::message::{Heartbeat, TelemetryItem};
use shared::name::NodeName;
use std::collections::BTreeSet;

pub(super) async fn run(telemetry: &Telemetry, mut consumer: Consumer) {
    let mut queues = Queues::default();
    let mut health = telemetry.bus.health();
    while let Some(items) = take(&mut consumer).await {
        let (mut beats, mut holds) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                TelemetryItem::Heartbeat(beat) => beats.push(*beat),
                TelemetryItem::Holds(held) => holds.push(held),
                TelemetryItem::Log(_) | TelemetryItem::LogEnd { .. } => {}
            }
        }
        if health.has_changed().unwrap_or(false) && *health.borrow_and_update() == BusHealth::Up {
            // The broker was away and may have come back empty.
            queues.declared.clear();
        }
        queues
            .declare(telemetry, beats.iter().map(|beat| &beat.node))
            .await;
        apply(telemetry, &beats).await;
        if let Err(error) = telemetry.store.work_held(&holds).await {
            // They are said again well before the leases end.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "leases of work were not renewed"
            );
        }
    }
}

async fn apply(telemetry: &Telemetry, beats: &[Heartbeat]) {
    match telemetry.store.heartbeats_apply(beats).await {
        Ok(applied) => {
            for node in &applied.registered {
                tracing::info!(node.name = %node, "node {node} registered");
            }
            if applied.due > 0 {
                telemetry.wake.assigner.notify_one();
            }
            if !applied.changed.is_empty() {
                telemetry.events.nodes(applied.changed);
                // A node that is ready now may be what a revision waits for.
                telemetry.wake.dispatcher.notify_one();
                telemetry.wake.publisher.notify_one();
                // Or what a move need not be for any longer.
                telemetry.wake.mover.notify_one();
            }
        }
        // The next heartbeats come within seconds.
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "heartbeats were not recorded"
        ),
    }
}

/// The work queues that this process has made sure of.
#[derive(Default)]
struct Queues {
    declared: BTreeSet<NodeName>,
}

impl Queues {
    async fn declare(&mut self, telemetry: &Telemetry, nodes: impl Iterator<Item = &NodeName>) {
        for node in nodes {
            if self.declared.contains(node) {
                continue;
            }
            match telemetry.bus.declare_work_queue(node).await {
                Ok(()) => {
                    self.declared.insert(node.clone());
                }
                Err(error) => {
                    tracing::warn!(node.name = %node, %error, "the work queue of node {node} could not be declared yet")
                }
            }
        }
    }
}
