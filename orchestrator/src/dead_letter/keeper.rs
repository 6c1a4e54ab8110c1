//! Takes dead letters from their queue into rows.
//!
//! A message that is well and died only because those who took it ended for other reasons, such as
//! five restarts in a row, is put back once: nothing that was acknowledged to its sender is lost by it.

use crate::store::{DeadLettersRecorded, NewDeadLetter, Store, StoreError};
use futures::future::join_all;
use shared::bus::{Address, Bus, BusError, Consumer, Death, DeathCause, Delivery, Subscription};
use shared::message::{NodeReport, WorkItem, decode};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many messages are under way to us, and the most that are recorded together. They may be large.
const PREFETCH: u16 = 16;
/// How long to wait after the database or the broker failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes dead letters from their queue into rows.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
}

impl Keeper {
    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the bus refuses for good.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BusError> {
        let mut consumer = self.bus.consume(Subscription::Dead, PREFETCH).await?;
        while let Some(Some(first)) = stop.run_until_cancelled(consumer.next()).await {
            let letters = take(first, &mut consumer);
            // What is not answered when the stop comes is delivered to whoever takes over.
            let _ = stop.run_until_cancelled(self.settle(letters)).await;
        }
        Ok(())
    }

    /// Records letters and answers their deliveries; waits for the database, if need be.
    async fn settle(&self, mut letters: Vec<Letter>) {
        let new: Vec<NewDeadLetter> = letters.iter_mut().map(Letter::row).collect();
        let mut is_said = false;
        let recorded = loop {
            match self.store.dead_letters_record(&new).await {
                Ok(recorded) => break recorded,
                Err(error) if error.is_about_the_data() => {
                    return self.settle_one_by_one(letters, new).await;
                }
                Err(error) if is_said => tracing::debug!(%error, "still not"),
                Err(error) => {
                    is_said = true;
                    say(&error);
                }
            }
            tokio::time::sleep(PAUSE).await;
        };
        count(&recorded, &new);
        self.put_back(&recorded, &new).await;
        join_all(letters.into_iter().map(|letter| letter.delivery.ack())).await;
    }

    /// One of them cannot be a row, ever: the others must not wait for it.
    async fn settle_one_by_one(&self, letters: Vec<Letter>, new: Vec<NewDeadLetter>) {
        for (letter, new) in letters.into_iter().zip(new) {
            let new = [new];
            match self.store.dead_letters_record(&new).await {
                Ok(recorded) => {
                    count(&recorded, &new);
                    self.put_back(&recorded, &new).await;
                    letter.delivery.ack().await;
                }
                Err(error) if error.is_about_the_data() => {
                    let [new] = &new;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        queue = new.queue,
                        reason = new.reason,
                        bytes = new.body.len(),
                        "a dead letter cannot be recorded; it is lost"
                    );
                    metrics::counter!("longshore_dead_letters_lost_total").increment(1);
                    letter.delivery.ack().await;
                }
                Err(_) => letter.delivery.requeue().await,
            }
        }
    }

    /// Sends those that are well to their queues again.
    async fn put_back(&self, recorded: &DeadLettersRecorded, new: &[NewDeadLetter]) {
        let letters = recorded.returned.iter().filter_map(|index| new.get(*index));
        join_all(letters.map(|letter| self.send_again(letter))).await;
    }

    async fn send_again(&self, letter: &NewDeadLetter) {
        let Some(address) = Address::of_queue(&letter.queue) else {
            return;
        };
        loop {
            match self.bus.publish(address.clone(), letter.body.clone()).await {
                Ok(()) => {
                    tracing::warn!(
                        queue = letter.queue,
                        "a message was delivered too often without an answer and is well: it is put back, once"
                    );
                    metrics::counter!("longshore_dead_letters_returned_total").increment(1);
                    return;
                }
                Err(BusError::Unroutable { .. } | BusError::Closed | BusError::Refused { .. }) => {
                    match self.store.dead_letter_keep(&letter.message).await {
                        Ok(()) => return,
                        Err(error) => say(&error),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, queue = letter.queue, "a message is put back a little later")
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A delivery of a dead letter, and what is known of its death.
struct Letter {
    delivery: Delivery,
    death: Death,
}

impl Letter {
    fn of(mut delivery: Delivery) -> Self {
        // Each delivery of this queue has one; a transport that forgot it must not lose the letter.
        let death = delivery.death.take().unwrap_or_else(|| Death {
            message: uuid::Uuid::new_v4().to_string(),
            queue: String::new(),
            cause: DeathCause::Other,
            reason: "it is not known why".to_owned(),
            sender: delivery.sender.clone(),
            deliveries: None,
            at: None,
        });
        Self { delivery, death }
    }

    /// As it is recorded. Takes the body.
    fn row(&mut self) -> NewDeadLetter {
        let body = std::mem::take(&mut self.delivery.body);
        NewDeadLetter {
            message: self.death.message.clone(),
            queue: self.death.queue.clone(),
            reason: self.death.reason.clone(),
            sender: self.death.sender.clone(),
            deliveries: self.death.deliveries,
            died_at: self.death.at,
            may_return: is_well(&self.death, &body),
            body,
        }
    }
}

/// What is there already.
fn take(first: Delivery, consumer: &mut Consumer) -> Vec<Letter> {
    let rest = std::iter::from_fn(|| consumer.try_next());
    std::iter::once(first)
        .chain(rest)
        .take(usize::from(PREFETCH))
        .map(Letter::of)
        .collect()
}

/// Whether nothing is wrong with a message but that it was never answered.
fn is_well(death: &Death, body: &[u8]) -> bool {
    death.cause == DeathCause::Exhausted
        && match death.address() {
            Some(Address::Work(_)) => decode::<WorkItem>(body).is_ok(),
            Some(Address::Deployment) => decode::<NodeReport>(body).is_ok(),
            _ => false,
        }
}

fn say(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "dead letters could not be recorded yet; trying again"
    );
}

fn count(recorded: &DeadLettersRecorded, new: &[NewDeadLetter]) {
    for letter in recorded.kept.iter().filter_map(|index| new.get(*index)) {
        tracing::warn!(
            queue = letter.queue,
            reason = letter.reason,
            bytes = letter.body.len(),
            "a message could not be handled; it is kept among the dead letters"
        );
        metrics::counter!("longshore_dead_letters_total", "queue" => kind(&letter.queue))
            .increment(1);
    }
    metrics::counter!("longshore_dead_letters_dropped_total").increment(recorded.dropped);
}

/// The kind of a queue: names that somebody made up would each be a figure of their own.
fn kind(queue: &str) -> &'static str {
    match queue {
        "deployment" => "deployment",
        "telemetry" => "telemetry",
        "events" => "events",
        work if work.starts_with("work.") => "work",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::message::{WorkReceipt, encode};

    #[test]
    fn only_what_is_well_and_was_never_answered_is_put_back() {
        let receipt = WorkReceipt {
            node: "n1".parse().unwrap(),
            work_id: shared::id::WorkId::new(),
        };
        let report = encode(&[NodeReport::Accepted(receipt)]);
        let cases: [(DeathCause, &str, &[u8], bool); 6] = [
            (DeathCause::Exhausted, "deployment", &report, true),
            (DeathCause::Exhausted, "deployment", b"nonsense", false),
            (DeathCause::Exhausted, "work.n1", &report, false),
            (DeathCause::Exhausted, "telemetry", &report, false),
            (DeathCause::Refused, "deployment", &report, false),
            (DeathCause::Other, "deployment", &report, false),
        ];
        for (cause, queue, body, expected) in cases {
            let death = Death {
                message: "m".to_owned(),
                queue: queue.to_owned(),
                cause,
                reason: String::new(),
                sender: None,
                deliveries: None,
                at: None,
            };
            assert_eq!(is_well(&death, body), expected, "{cause:?} {queue}");
        }
    }
}
