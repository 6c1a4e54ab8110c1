//! The items of one body, read with an end.

use super::{DecodeError, ITEMS_LIMIT};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::marker::PhantomData;

/// The first items of a body, and how many there are. What is beyond [`ITEMS_LIMIT`] is counted only.
pub(super) struct Items<T> {
    first: Vec<T>,
    count: usize,
}

impl<T> Items<T> {
    /// All of them.
    ///
    /// # Errors
    /// [`DecodeError::TooMany`].
    pub(super) fn bounded(self) -> Result<Vec<T>, DecodeError> {
        if self.count > ITEMS_LIMIT {
            return Err(DecodeError::TooMany { count: self.count });
        }
        Ok(self.first)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Reading(PhantomData))
    }
}

struct Reading<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reading<T> {
    type Value = Items<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Items<T>, A::Error> {
        let mut first = Vec::new();
        while first.len() < ITEMS_LIMIT {
            match items.next_element()? {
                Some(item) => first.push(item),
                None => {
                    let count = first.len();
                    return Ok(Items { first, count });
                }
            }
        }
        let mut count = first.len();
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Items { first, count })
    }
}

#[cfg(test)]
mod tests {
    use crate::message::{DecodeError, ITEMS_LIMIT, decode, decode_each, encode};

    #[test]
    fn more_items_than_are_read_are_counted() {
        let body = encode(&vec![0; ITEMS_LIMIT]);
        assert_eq!(decode::<i32>(&body).unwrap().len(), ITEMS_LIMIT);
        let body = encode(&vec![0; 2_000_000]);
        assert!(matches!(
            decode::<i32>(&body),
            Err(DecodeError::TooMany { count: 2_000_000 })
        ));
        // Of another kind than is wanted, each would be kept with a reason of its own.
        let refused = decode_each::<String>(&body).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the body has 2000000 items, more than 10000"
        );
    }
}
