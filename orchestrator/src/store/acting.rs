//! What a command asks of one deployment's nodes and records about its revisions.

use super::column::now;
use super::entity::{deployment, work_request};
use super::ledger::{Because, Ledger, Standing};
use super::work::{order, work_insert};
use super::{StoreError, Tx};
use shared::id::StoreIncarnation;
use shared::message::{StatusEvent, WorkAction};
use shared::status::{ApplicationStatus, DesiredState, FailureReason};

/// What a command came to, for whoever follows its commit.
#[derive(Clone, Debug, Default)]
pub struct Acted {
    /// The recorded steps.
    pub steps: Vec<StatusEvent>,
    /// How many orders to nodes wait to be sent.
    pub orders: usize,
    /// Whether its repository may be due for a look at another time than before.
    pub is_watched_anew: bool,
}

/// What is asked of the nodes of one deployment in one transaction, with the steps that go with it.
pub(super) struct Acting<'a> {
    pub(super) store: StoreIncarnation,
    pub(super) deployment: &'a deployment::Model,
    pub(super) ledger: Ledger,
    pub(super) orders: Vec<work_request::ActiveModel>,
    /// Another ref of its repository is followed from now on.
    pub(super) follows_another: bool,
}

impl<'a> Acting<'a> {
    pub(super) fn new(store: StoreIncarnation, deployment: &'a deployment::Model) -> Self {
        Self {
            store,
            deployment,
            ledger: Ledger::default(),
            orders: Vec::new(),
            follows_another: false,
        }
    }

    /// Ends an open revision as `into`: at once when no node has it, else by asking its node.
    /// Asked before, it stays with what it was asked for then.
    pub(super) fn ask(&mut self, standing: &mut Standing, into: ApplicationStatus, why: &str) {
        let Some(node_id) = standing.node_id.filter(|_| standing.is_under_way()) else {
            let failure_reason =
                (into == ApplicationStatus::Cancelled).then_some(FailureReason::Cancelled);
            self.ledger.step(
                standing,
                into,
                Because {
                    failure_reason,
                    ..Because::of(why)
                },
            );
            return;
        };
        if standing.cancel_requested_at.is_some() {
            return;
        }
        let at = now();
        standing.cancel_requested_at = Some(at);
        standing.cancel_into = Some(into);
        standing.status_detail = Some(format!("being cancelled: {why}"));
        self.ledger.touch(standing);
        self.orders.extend(order(
            self.store,
            &self.deployment.name,
            standing,
            node_id,
            WorkAction::Cancel,
            at,
        ));
    }

    pub(super) async fn save(self, tx: &Tx<'_>) -> Result<Acted, StoreError> {
        let steps = self.ledger.save(tx).await?;
        let orders = self.orders.len();
        work_insert(tx, self.orders).await?;
        Ok(Acted {
            steps,
            orders,
            // What is stopped is not looked at.
            is_watched_anew: self.follows_another
                || self.deployment.desired_state == DesiredState::Stopped,
        })
    }
}
