//! Reading a body item by item: one that a release does not know, or that is broken, must not bury
//! the others of its batch.

use super::{DecodeError, ReadBatch, check, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The longest account of why items do not read, in bytes.
const REASON_LIMIT: usize = 1024;

/// An item that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadItem {
    /// As it was sent.
    pub json: Value,
    /// What is wrong with it.
    pub reason: String,
}

impl BadItem {
    /// An item that reads, but that nothing can be done with.
    #[must_use]
    pub fn of(item: &impl Serialize, reason: String) -> Self {
        // Messages are our own types: string keys and finite numbers, nothing that JSON refuses.
        let json = serde_json::to_value(item).unwrap_or_default();
        Self { json, reason }
    }
}

/// Reads the items of one body, each for itself, in their order. Costs no more than [`decode`] when
/// all of them read.
///
/// # Errors
/// [`DecodeError`] for a body that is too large, has too many items, is of another version or no batch
/// at all.
pub fn decode_each<T: DeserializeOwned>(
    body: &[u8],
) -> Result<Vec<Result<T, BadItem>>, DecodeError> {
    match decode(body) {
        Ok(items) => return Ok(items.into_iter().map(Ok).collect()),
        Err(DecodeError::Malformed(_)) => {}
        Err(error) => return Err(error),
    }
    check(body)?;
    let batch: ReadBatch<Value> = serde_json::from_slice(body).map_err(DecodeError::Malformed)?;
    let read = |json: Value| {
        T::deserialize(&json).map_err(|error| BadItem {
            // It may repeat what it does not know.
            reason: bounded(error.to_string()),
            json,
        })
    };
    Ok(batch.items.bounded()?.into_iter().map(read).collect())
}

/// The items that did not read as a body of their own, to be kept in `dead` in place of the whole
/// and to be sent again as it is, with one reason for all of them; none when there are none.
#[must_use]
pub fn bad_items(items: &[BadItem]) -> Option<(Vec<u8>, String)> {
    if items.is_empty() {
        return None;
    }
    let kept: Vec<&Value> = items.iter().map(|item| &item.json).collect();
    let mut reason = String::new();
    for item in items {
        if reason.len() > REASON_LIMIT {
            break;
        }
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        reason.push_str(&item.reason);
    }
    Some((encode(&kept), bounded(reason)))
}

fn bounded(mut reason: String) -> String {
    if reason.len() > REASON_LIMIT {
        reason.truncate(reason.floor_char_boundary(REASON_LIMIT));
        reason.push('…');
        reason.shrink_to_fit();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(body: &[u8]) -> Vec<Option<i32>> {
        let items = decode_each::<i32>(body).unwrap();
        items.into_iter().map(Result::ok).collect()
    }

    #[test]
    fn a_bad_item_leaves_the_others_in_their_order() {
        assert_eq!(kinds(&encode(&[1, 2])), [Some(1), Some(2)]);
        let body = br#"{"v":1,"items":[1,"x",3,{"type":"newer","id":7}]}"#;
        assert_eq!(kinds(body), [Some(1), None, Some(3), None]);
    }

    #[test]
    fn what_is_no_batch_is_refused_as_a_whole() {
        for body in [&b""[..], b"[]", b"{\"v\":1}", b"{\"v\":1,\"items\":[1"] {
            assert!(
                matches!(decode_each::<i32>(body), Err(DecodeError::Malformed(_))),
                "{body:?}"
            );
        }
        let newer = decode_each::<i32>(b"{\"v\":2,\"items\":[1]}");
        assert!(matches!(newer, Err(DecodeError::Version { found: 2 })));
    }

    #[test]
    fn bad_items_are_a_body_that_reads_once_a_release_knows_them() {
        assert_eq!(bad_items(&[]), None);
        let body = br#"{"v":1,"items":[1,"x",3]}"#;
        let bad: Vec<BadItem> = decode_each::<i32>(body)
            .unwrap()
            .into_iter()
            .filter_map(Result::err)
            .collect();
        let (kept, reason) = bad_items(&bad).unwrap();
        assert_eq!(decode::<String>(&kept).unwrap(), ["x"]);
        assert!(reason.contains("invalid type"), "{reason}");
    }

    #[test]
    fn the_reason_is_bounded() {
        let item = BadItem {
            json: Value::Null,
            reason: "é".repeat(REASON_LIMIT),
        };
        let (_, reason) = bad_items(&[item.clone(), item]).unwrap();
        assert!(reason.len() <= REASON_LIMIT + '…'.len_utf8());
    }

    #[test]
    fn a_reason_does_not_repeat_a_whole_item() {
        let body = encode(&["x".repeat(100 * REASON_LIMIT)]);
        let item = decode_each::<i32>(&body).unwrap().remove(0).unwrap_err();
        assert!(item.reason.len() <= REASON_LIMIT + '…'.len_utf8());
    }
}
