//! Pages and the opaque cursors between them.

use crate::error::CommandError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How many items a page has when nothing else is asked for.
pub const DEFAULT_PAGE: u64 = 50;
/// How many items a page has at most.
pub const LARGEST_PAGE: u64 = 200;

/// Which page is asked for, in the words of whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// How many items, 1 to 200; 50 when absent.
    pub first: Option<i32>,
    /// The cursor of the item before the page; from the start when absent.
    pub after: Option<String>,
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageOf<T> {
    /// The items, in order.
    pub edges: Vec<Edge<T>>,
    /// Whether more follow.
    pub has_next_page: bool,
}

/// An item of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge<T> {
    /// Where it stands in the list, opaque.
    pub cursor: String,
    /// The item.
    pub node: T,
}

impl<T> PageOf<T> {
    /// A page with nothing on it, after which nothing follows.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            edges: Vec::new(),
            has_next_page: false,
        }
    }
}

impl Page {
    /// How many items to read.
    pub(super) fn size(&self) -> Result<u64, CommandError> {
        let Some(first) = self.first else {
            return Ok(DEFAULT_PAGE);
        };
        match u64::try_from(first) {
            Ok(size @ 1..=LARGEST_PAGE) => Ok(size),
            _ => Err(CommandError::invalid(
                "first",
                format_args!("{first} is not a page size: give 1 to {LARGEST_PAGE}"),
            )),
        }
    }

    /// The position after which to read, as `encode` wrote it for lists of this `kind`.
    pub(super) fn position<const N: usize>(
        &self,
        kind: u8,
    ) -> Result<Option<[u8; N]>, CommandError> {
        let Some(after) = &self.after else {
            return Ok(None);
        };
        let refused = || {
            CommandError::invalid(
                "after",
                "not a cursor of this list: give one that an earlier page returned",
            )
        };
        if after.len() > 64 {
            return Err(refused());
        }
        let bytes = URL_SAFE_NO_PAD.decode(after).map_err(|_| refused())?;
        match bytes.split_first() {
            Some((found, position)) if *found == kind => {
                position.try_into().map(Some).map_err(|_| refused())
            }
            _ => Err(refused()),
        }
    }
}

/// Writes a position in a list of this `kind` as a cursor.
pub(super) fn encode(kind: u8, position: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(1 + position.len());
    bytes.push(kind);
    bytes.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Cuts what was read (one more than asked for, to know whether more follow) into a page.
pub(super) fn page_of<T>(mut rows: Vec<T>, size: u64, cursor: impl Fn(&T) -> String) -> PageOf<T> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let has_next_page = rows.len() > size;
    rows.truncate(size);
    let edges = rows
        .into_iter()
        .map(|node| Edge {
            cursor: cursor(&node),
            node,
        })
        .collect();
    PageOf {
        edges,
        has_next_page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(first: Option<i32>, after: Option<&str>) -> Page {
        Page {
            first,
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn a_page_has_one_to_two_hundred_items() {
        assert_eq!(page(None, None).size().unwrap(), DEFAULT_PAGE);
        assert_eq!(page(Some(1), None).size().unwrap(), 1);
        assert_eq!(page(Some(200), None).size().unwrap(), 200);
        for first in [0, -1, 201, i32::MIN, i32::MAX] {
            assert_eq!(
                page(Some(first), None).size().unwrap_err().code(),
                "INVALID_INPUT",
                "{first}"
            );
        }
    }

    #[test]
    fn a_cursor_reads_back_for_its_own_list_only() {
        let cursor = encode(b'd', &[7; 16]);
        assert_eq!(
            page(None, Some(&cursor)).position::<16>(b'd').unwrap(),
            Some([7; 16])
        );
        assert!(page(None, Some(&cursor)).position::<16>(b'r').is_err());
        assert!(page(None, Some(&cursor)).position::<4>(b'd').is_err());
        for forged in ["", "x", "!!!!", "ZA", &"A".repeat(10_000)] {
            assert!(
                page(None, Some(forged)).position::<16>(b'd').is_err(),
                "{forged:.20}"
            );
        }
    }
}
