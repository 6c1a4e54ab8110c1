//! What travels beside a dead letter: our own headers where one of us gave the message up, and
//! `x-death` where the broker did.

use super::super::{DELIVERY_LIMIT, Death, DeathCause, Subscription};
use chrono::DateTime;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use sha2::{Digest, Sha256};

const REASON: &str = "x-reason";
const QUEUE: &str = "x-queue";
const MESSAGE: &str = "x-message";
const SENDER: &str = "x-sender";
const DELIVERIES: &str = "x-deliveries";

/// How much of a reason or name travels, in bytes: what is longer was not made by us.
const WORDS_LIMIT: usize = 4096;

/// What is written beside a message that is given up.
pub(super) struct Notice {
    queue: Option<String>,
    message: Option<String>,
    sender: Option<String>,
    deliveries: u32,
}

impl Notice {
    /// Of a message that was read there. Only the rare ones that are given up are ever written, so
    /// nothing is kept of a broadcast beyond what tells its copies to be one.
    pub(super) fn of(subscription: &Subscription, properties: &BasicProperties) -> Self {
        let again = properties
            .headers()
            .as_ref()
            .and_then(|headers| number(headers.inner().get("x-delivery-count")?));
        Self {
            queue: (*subscription != Subscription::Dead).then(|| subscription.queue()),
            message: properties.message_id().as_ref().map(ToString::to_string),
            sender: properties.user_id().as_ref().map(ToString::to_string),
            deliveries: again.unwrap_or(0).saturating_add(1),
        }
    }

    /// As headers, with the reason.
    pub(super) fn headers(&self, reason: &str) -> FieldTable {
        let mut headers = FieldTable::default();
        let words = [
            (REASON, Some(reason)),
            (QUEUE, self.queue.as_deref()),
            (MESSAGE, self.message.as_deref()),
            (SENDER, self.sender.as_deref()),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                headers.insert(name.into(), AMQPValue::LongString(cut(word)));
            }
        }
        headers.insert(DELIVERIES.into(), AMQPValue::LongUInt(self.deliveries));
        headers
    }
}

/// Reads what travels beside a dead letter.
pub(super) fn read(properties: &BasicProperties, body: &[u8]) -> Death {
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    let own = |name: &str| text(headers.inner().get(name)?);
    let broker = Broker::of(headers);
    let message =
        own(MESSAGE).or_else(|| properties.message_id().as_ref().map(ToString::to_string));
    let mut death = match own(REASON) {
        Some(reason) => Death {
            message: String::new(),
            queue: own(QUEUE).unwrap_or_default(),
            cause: DeathCause::Refused,
            reason,
            sender: own(SENDER),
            deliveries: headers.inner().get(DELIVERIES).and_then(number),
            at: None,
        },
        None => broker.death(properties),
    };
    death.message = message.unwrap_or_else(|| nameless(&death, body));
    death
}

/// What the broker wrote when it gave a message up.
#[derive(Default)]
struct Broker {
    queue: String,
    reason: String,
    at: Option<u64>,
}

impl Broker {
    fn of(headers: &FieldTable) -> Self {
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
            return Self::default();
        };
        let Some(AMQPValue::FieldTable(newest)) = deaths.as_slice().first() else {
            return Self::default();
        };
        let word = |name: &str| newest.inner().get(name).and_then(text).unwrap_or_default();
        Self {
            queue: word("queue"),
            reason: word("reason"),
            at: match newest.inner().get("time") {
                Some(AMQPValue::Timestamp(seconds)) => Some(*seconds),
                _ => None,
            },
        }
    }

    fn death(self, properties: &BasicProperties) -> Death {
        let (cause, reason, deliveries) = match self.reason.as_str() {
            "delivery_limit" => (
                DeathCause::Exhausted,
                Death::EXHAUSTED.to_owned(),
                Some(DELIVERY_LIMIT),
            ),
            // Its reader could not reach us to keep its words.
            "rejected" => (
                DeathCause::Refused,
                "its reader refused it; the reason was lost".to_owned(),
                None,
            ),
            "" => (
                DeathCause::Other,
                "the broker does not say why".to_owned(),
                None,
            ),
            other => (DeathCause::Other, format!("the broker says: {other}"), None),
        };
        let at = self.at.and_then(|seconds| i64::try_from(seconds).ok());
        Death {
            message: String::new(),
            queue: self.queue,
            cause,
            reason,
            sender: properties.user_id().as_ref().map(ToString::to_string),
            deliveries,
            at: at.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        }
    }
}

/// What stands for the identity of a message that came without one: nobody of ours sent it. Two that
/// are alike in everything count as one.
fn nameless(death: &Death, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(death.queue.as_bytes());
    hash.update([0]);
    hash.update(death.at.map_or(0, |at| at.timestamp()).to_be_bytes());
    hash.update(body);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => {
            Some(cut(&String::from_utf8_lossy(text.as_bytes())).to_string())
        }
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn number(value: &AMQPValue) -> Option<u32> {
    let number = match value {
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    };
    u32::try_from(number).ok()
}

fn cut(word: &str) -> LongString {
    LongString::from(&word[..word.floor_char_boundary(WORDS_LIMIT)])
}
