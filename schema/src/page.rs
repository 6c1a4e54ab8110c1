//! Pages: what a list may cost, and how its shape is answered.

use async_graphql::SimpleObject;
use orchestrator::query::{DEFAULT_PAGE, LARGEST_PAGE, Page, PageOf};

/// As many items as the engine puts on a page when nothing else is asked for, and at most.
const USUAL: usize = DEFAULT_PAGE as usize;
const LARGEST: usize = LARGEST_PAGE as usize;

/// How long lists without pages usually are: the ports, services, labels of one deployment, the
/// steps of one revision.
const SHORT: usize = 6;
/// How many nodes a fleet usually has.
const NODES: usize = 20;

/// The price of one answer, in fields. The largest page of deployments with everything beside them fits,
/// a page of pages does not.
pub(crate) const COMPLEXITY_LIMIT: usize = 50_000;

/// The price of a body that may be megabytes large: two fit into an answer.
pub(crate) const BODY_PRICE: usize = 20_000;

/// The price of a page: what is asked of each item, times the items.
pub(crate) fn page_price(first: Option<i32>, each: usize) -> usize {
    // A page size out of range is refused when it is read; here it must only not be cheap.
    let items = first.map_or(USUAL, |first| {
        usize::try_from(first).unwrap_or(LARGEST).min(LARGEST)
    });
    items.saturating_mul(each).saturating_add(1)
}

/// The price of a short list without pages.
pub(crate) fn list_price(each: usize) -> usize {
    SHORT.saturating_mul(each).saturating_add(1)
}

/// The price of the list of all nodes.
pub(crate) fn nodes_price(each: usize) -> usize {
    NODES.saturating_mul(each).saturating_add(1)
}

/// The page that is asked for, as the engine takes it.
pub(crate) fn page(first: Option<i32>, after: Option<String>) -> Page {
    Page { first, after }
}

/// Where a page ends and whether more follows.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct PageInfo {
    /// Whether there are items after this page: ask for them with `after: endCursor`.
    has_next_page: bool,
    /// Whether there are items before this page, which is so when it was asked for with `after`.
    has_previous_page: bool,
    /// The cursor of the first item; none on an empty page.
    start_cursor: Option<String>,
    /// The cursor of the last item; none on an empty page.
    end_cursor: Option<String>,
}

impl PageInfo {
    /// Of a page that was asked for with or without `after`.
    pub(crate) fn of<T>(page: &PageOf<T>, after: bool) -> Self {
        Self {
            has_next_page: page.has_next_page,
            has_previous_page: after,
            start_cursor: page.edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: page.edges.last().map(|edge| edge.cursor.clone()),
        }
    }
}

/// Defines the connection and edge of one kind of item, whose names the schema promises.
macro_rules! connection {
    ($(#[$doc:meta])* $connection:ident, $(#[$edge_doc:meta])* $edge:ident, $node:ty) => {
        $(#[$edge_doc])*
        #[derive(Clone, async_graphql::SimpleObject)]
        pub(crate) struct $edge {
            /// Where the item stands in the list, opaque.
            cursor: String,
            /// The item.
            node: $node,
        }

        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $connection {
            edges: Vec<$edge>,
            page_info: $crate::page::PageInfo,
        }

        $(#[$doc])*
        #[async_graphql::Object]
        impl $connection {
            /// The items with their cursors.
            async fn edges(&self) -> &[$edge] {
                &self.edges
            }

            /// The items alone.
            async fn nodes(&self) -> Vec<&$node> {
                self.edges.iter().map(|edge| &edge.node).collect()
            }

            /// Where this page ends and whether more follows.
            async fn page_info(&self) -> &$crate::page::PageInfo {
                &self.page_info
            }
        }

        impl $connection {
            /// From the engine's page, which was asked for with or without `after`.
            pub(crate) fn new<T: Into<$node>>(page: orchestrator::query::PageOf<T>, after: bool) -> Self {
                let page_info = $crate::page::PageInfo::of(&page, after);
                let edges = page.edges.into_iter().map(|edge| $edge { cursor: edge.cursor, node: edge.node.into() }).collect();
                Self { edges, page_info }
            }
        }
    };
}

pub(crate) use connection;
