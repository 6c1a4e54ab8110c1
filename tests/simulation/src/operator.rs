//! The operator: takes nodes out of service and back while the storm lasts, and afterwards puts in
//! order what only a person can: nothing stays cordoned, and what is gone is removed.

use crate::dice::Dice;
use crate::world::{Slot, World};
use orchestrator::{CommandError, Orchestrator};
use shared::status::NodeStatus;
use std::sync::Arc;
use std::time::Duration;

/// How long the operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long between two looks in peace.
const LOOK: Duration = Duration::from_secs(3);

/// What is asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cordon,
    Uncordon,
    Drain,
    Remove,
}

/// Lets the operator act.
pub(crate) fn begin(world: &Arc<World>) {
    let operator = Operator {
        dice: Dice::new(world.scenario.seed, "operator"),
        world: Arc::clone(world),
    };
    tokio::spawn(operator.act());
}

struct Operator {
    world: Arc<World>,
    dice: Dice,
}

impl Operator {
    async fn act(self) {
        let storm = u64::try_from(self.world.scenario.storm.as_millis()).unwrap_or(u64::MAX);
        let orders = if self.world.scenario.faults.nodes_operated {
            self.dice.between(0, 4)
        } else {
            0
        };
        for _ in 0..orders {
            tokio::time::sleep(self.dice.millis(0, storm / 3)).await;
            if !self.world.is_stormy() {
                break;
            }
            let slots: Vec<&Slot> = self.world.nodes().collect();
            let slot = slots[self.dice.place(slots.len())];
            let order = match self.dice.between(0, 5) {
                0 | 1 => Order::Cordon,
                2 => Order::Uncordon,
                3 | 4 => Order::Drain,
                _ => Order::Remove,
            };
            self.ask(slot, order).await;
        }
        while self.world.is_stormy() {
            tokio::time::sleep(LOOK).await;
        }
        self.put_in_order().await;
    }

    /// Until each node that is there takes work, and each that is gone is forgotten.
    async fn put_in_order(&self) {
        let mut left: Vec<&Slot> = self.world.all_nodes().collect();
        while !left.is_empty() {
            let mut next = Vec::new();
            for slot in left {
                let order = if slot.is_gone() {
                    Order::Remove
                } else {
                    Order::Uncordon
                };
                if !self.ask(slot, order).await {
                    next.push(slot);
                }
            }
            left = next;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `true` when it was done, or has nothing to do.
    async fn ask(&self, slot: &Slot, order: Order) -> bool {
        let Some((who, orchestrator)) = self.world.orchestrator(&self.dice) else {
            return false;
        };
        if order == Order::Remove {
            self.world.remove();
        }
        let seconds = i32::try_from(self.dice.between(1, 60)).unwrap_or(1);
        let asked = Box::pin(give(&orchestrator, slot, order, seconds));
        let heard = tokio::time::timeout(PATIENCE, asked).await;
        self.world.trace.note(|| {
            let said = match &heard {
                Ok(Ok(())) => "done".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            format!("operator asks {who}: {order:?} {}: {said}", slot.who)
        });
        match heard {
            Ok(Ok(())) => true,
            // A node that never said anything is not known, and has nothing to put in order.
            Ok(Err(CommandError::NotFound { .. })) => true,
            Ok(Err(CommandError::Conflict { .. } | CommandError::Unavailable { .. })) | Err(_) => {
                false
            }
            Ok(Err(error)) => {
                self.world
                    .trace
                    .complain(format!("the operator was told: {error:?}"));
                false
            }
        }
    }
}

async fn give(
    orchestrator: &Orchestrator,
    slot: &Slot,
    order: Order,
    seconds: i32,
) -> Result<(), CommandError> {
    let name = slot.who.to_string();
    let node = orchestrator.queries().node_by_name(&name).await?;
    let node = node.ok_or_else(|| CommandError::not_found("node", &name))?;
    let commands = orchestrator.commands();
    match order {
        Order::Cordon => commands.cordon_node(node.id).await.map(drop),
        Order::Uncordon => commands.uncordon_node(node.id).await.map(drop),
        Order::Drain => commands.drain_node(node.id, seconds).await.map(drop),
        // What is still there refuses it; asking is harmless.
        Order::Remove if node.status == NodeStatus::Lost || slot.is_gone() => {
            commands.remove_node(node.id).await.map(drop)
        }
        Order::Remove => Ok(()),
    }
}
