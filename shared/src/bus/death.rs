//! What is known of a message that nobody could handle.

use super::Address;
use crate::name::NodeName;
use chrono::{DateTime, Utc};

/// What a transport knows of a message's death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Tells the message from every other one: the same with each delivery, and with each copy where
    /// several readers had one.
    pub message: String,
    /// The queue that it came from: `work.<node>`, `deployment`, `telemetry` or `events`; what the
    /// broker says, where that is another.
    pub queue: String,
    /// What kind of end it was.
    pub cause: DeathCause,
    /// Why, for people.
    pub reason: String,
    /// Who sent the message, as the broker vouches for it.
    pub sender: Option<String>,
    /// How often it was delivered, when that is known.
    pub deliveries: Option<u32>,
    /// When, when that is known.
    pub at: Option<DateTime<Utc>>,
}

/// What kind of end a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathCause {
    /// A reader said that it cannot be handled, ever.
    Refused,
    /// It was delivered [`super::DELIVERY_LIMIT`] times without an answer: either it ends whoever takes
    /// it, or those who took it ended for other reasons.
    Exhausted,
    /// The broker had another reason, such as a limit that an operator set.
    Other,
}

impl Death {
    /// The reason of what was delivered too often.
    pub const EXHAUSTED: &'static str = "delivered too often without an answer";

    /// Where the message can be sent again; nothing where it was said in passing, or where the queue is
    /// none of ours.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        Address::of_queue(&self.queue)
    }
}

impl Address {
    /// The durable queue of this name, as [`Death::queue`] has it; nothing for any other name.
    #[must_use]
    pub fn of_queue(queue: &str) -> Option<Self> {
        match queue.strip_prefix("work.") {
            Some(node) => NodeName::parse(node).ok().map(Self::Work),
            None => (queue == "deployment").then_some(Self::Deployment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_durable_queues_are_sent_to_again() {
        let node = NodeName::parse("n1").unwrap();
        assert_eq!(Address::of_queue("work.n1"), Some(Address::Work(node)));
        assert_eq!(Address::of_queue("deployment"), Some(Address::Deployment));
        for other in [
            "",
            "work.",
            "work.N 1",
            "telemetry",
            "events",
            "dead",
            "amq.gen-x",
        ] {
            assert_eq!(Address::of_queue(other), None, "{other}");
        }
    }
}
