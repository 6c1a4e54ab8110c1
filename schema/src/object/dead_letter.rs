//! A message that nobody could handle.

use super::{id, int};
use crate::error::ApiError;
use crate::loader::{DeadLetterBodyOf, load};
use crate::page::{BODY_PRICE, connection};
use async_graphql::{Context, Enum, ID, Object};
use chrono::{DateTime, Utc};
use orchestrator::view::DeadLetterView;

/// A message between orchestrators and nodes that nobody could handle.
#[derive(Clone)]
pub(crate) struct DeadLetter {
    view: DeadLetterView,
}

impl From<DeadLetterView> for DeadLetter {
    fn from(view: DeadLetterView) -> Self {
        Self { view }
    }
}

/// How a body is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum BodyEncoding {
    /// As it was sent.
    Text,
    /// In Base64, since it is no plain text.
    Base64,
}

/// A message between orchestrators and nodes that nobody could handle.
#[Object]
impl DeadLetter {
    /// Its identity.
    async fn id(&self) -> ID {
        id(self.view.id)
    }

    /// The queue that it came from: `work.<node>`, `deployment`, `telemetry` or `events`.
    async fn queue(&self) -> &str {
        &self.view.queue
    }

    /// The name of the node that it was for, when it was work for one.
    async fn node(&self) -> Option<&str> {
        self.view.node.as_ref().map(|node| node.as_str())
    }

    /// Why nobody could handle it.
    async fn reason(&self) -> &str {
        &self.view.reason
    }

    /// The broker's account that sent it, when it is known.
    async fn sender(&self) -> Option<&str> {
        self.view.sender.as_deref()
    }

    /// How often it was delivered, when that is known.
    async fn deliveries(&self) -> Option<i32> {
        self.view.deliveries.map(int)
    }

    /// The size of the message as it came, in bytes.
    async fn size(&self) -> i32 {
        int(self.view.size)
    }

    /// What was sent; none once it is gone. It may be large: ask for it of one at a time.
    #[graphql(complexity = "BODY_PRICE")]
    async fn body(&self, ctx: &Context<'_>) -> Result<Option<String>, ApiError> {
        load(ctx, DeadLetterBodyOf(self.view.id)).await
    }

    /// How the body is shown.
    async fn encoding(&self) -> BodyEncoding {
        if self.view.is_text {
            BodyEncoding::Text
        } else {
            BodyEncoding::Base64
        }
    }

    /// Whether the body was too large to be kept whole: only its beginning is there.
    async fn is_truncated(&self) -> bool {
        !self.view.is_whole
    }

    /// When it died.
    async fn died_at(&self) -> DateTime<Utc> {
        self.view.died_at
    }
}

connection! {
    /// A page of dead letters.
    DeadLetterConnection,
    /// A dead letter on a page.
    DeadLetterEdge,
    DeadLetter
}
