//! Reading dead letters.

use super::Queries;
use super::cursor::{Page, PageOf, encode, page_of};
use crate::error::CommandError;
use crate::store::StoreError;
use crate::store::column::Time;
use crate::store::entity::dead_letter;
use crate::view::DeadLetterView;
use sea_orm::{ColumnTrait, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use shared::id::DeadLetterId;
use shared::name::NodeName;
use std::collections::HashMap;
use uuid::Uuid;

/// Marks cursors of this list.
const CURSOR: u8 = b'l';

/// A dead letter without its body.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "dead_letter::Entity")]
struct Row {
    id: DeadLetterId,
    queue: String,
    reason: String,
    sender: Option<String>,
    deliveries: Option<i32>,
    size: i64,
    is_text: bool,
    is_whole: bool,
    died_at: Time,
}

#[derive(DerivePartialModel)]
#[sea_orm(entity = "dead_letter::Entity")]
struct Body {
    id: DeadLetterId,
    body: String,
}

impl Queries {
    /// A dead letter by its id.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn dead_letter_by_id(
        &self,
        id: DeadLetterId,
    ) -> Result<Option<DeadLetterView>, CommandError> {
        let row: Option<Row> = dead_letter::Entity::find_by_id(id)
            .filter(dead_letter::Column::ReturnedAt.is_null())
            .into_partial_model()
            .one(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(row.map(view))
    }

    /// A page of dead letters, newest first.
    ///
    /// # Errors
    /// `INVALID_INPUT` for a page size or cursor that is not right; `UNAVAILABLE`, `INTERNAL`.
    pub async fn dead_letters_page(
        &self,
        page: &Page,
    ) -> Result<PageOf<DeadLetterView>, CommandError> {
        let size = page.size()?;
        let mut select =
            dead_letter::Entity::find().filter(dead_letter::Column::ReturnedAt.is_null());
        if let Some(after) = page.position(CURSOR)? {
            let after = DeadLetterId(Uuid::from_bytes(after));
            select = select.filter(dead_letter::Column::Id.lt(after));
        }
        let rows: Vec<Row> = select
            .order_by_desc(dead_letter::Column::Id)
            .limit(size + 1)
            .into_partial_model()
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        let views = rows.into_iter().map(view).collect();
        Ok(page_of(views, size, |letter: &DeadLetterView| {
            encode(CURSOR, letter.id.0.as_bytes())
        }))
    }

    /// The bodies of these dead letters, as they were sent or in Base64.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `INTERNAL`.
    pub async fn dead_letter_bodies(
        &self,
        ids: &[DeadLetterId],
    ) -> Result<HashMap<DeadLetterId, String>, CommandError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let bodies: Vec<Body> = dead_letter::Entity::find()
            .filter(dead_letter::Column::Id.is_in(ids.iter().copied()))
            .into_partial_model()
            .all(self.store.reader())
            .await
            .map_err(StoreError::from)?;
        Ok(bodies.into_iter().map(|row| (row.id, row.body)).collect())
    }
}

fn view(row: Row) -> DeadLetterView {
    let node = row
        .queue
        .strip_prefix("work.")
        .and_then(|node| NodeName::parse(node).ok());
    DeadLetterView {
        id: row.id,
        node,
        queue: row.queue,
        reason: row.reason,
        sender: row.sender,
        deliveries: row.deliveries.and_then(|count| u32::try_from(count).ok()),
        size: u64::try_from(row.size).unwrap_or_default(),
        is_text: row.is_text,
        is_whole: row.is_whole,
        died_at: row.died_at,
    }
}
