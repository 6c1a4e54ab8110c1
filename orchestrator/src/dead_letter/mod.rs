//! Messages that nobody could handle: kept in rows, so that people can look, send them again, or drop
//! them. [`keeper`] brings them there.

mod keeper;

pub(crate) use keeper::Keeper;

use crate::error::CommandError;
use crate::store::Store;
use shared::bus::{Address, Bus, BusError};
use shared::id::DeadLetterId;
use std::sync::Arc;

/// What people can do about dead letters. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    store: Store,
    bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// Over a store and the bus that messages are sent again on.
    #[must_use]
    pub fn new(store: Store, bus: Arc<dyn Bus>) -> Self {
        Self { store, bus }
    }

    /// Sends a dead letter to its queue again and forgets it; one that still cannot be handled dies
    /// again.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it cannot be sent again: it was said in passing, only its
    /// beginning was kept, or its queue is gone; `UNAVAILABLE`, and then it is kept.
    pub async fn retry(&self, id: DeadLetterId) -> Result<(), CommandError> {
        let kept = self
            .store
            .dead_letter_message(id)
            .await?
            .ok_or_else(|| CommandError::not_found("dead letter", id))?;
        let address = Address::of_queue(&kept.queue).ok_or_else(|| {
            CommandError::conflict(format!(
                "what was said on `{}` is not said again: drop it",
                shared::name::shown(&kept.queue)
            ))
        })?;
        let body = kept.body.ok_or_else(|| {
            CommandError::conflict(
                "the message was too large to be kept whole, so it cannot be sent again: drop it",
            )
        })?;
        self.bus
            .publish(address, body)
            .await
            .map_err(|error| not_sent(&kept.queue, error))?;
        // Should this process end here the message is there twice, which changes nothing.
        self.store.dead_letter_drop(id).await?;
        Ok(())
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE`.
    pub async fn drop(&self, id: DeadLetterId) -> Result<(), CommandError> {
        if self.store.dead_letter_drop(id).await? {
            Ok(())
        } else {
            Err(CommandError::not_found("dead letter", id))
        }
    }
}

fn not_sent(queue: &str, error: BusError) -> CommandError {
    match error {
        BusError::Unroutable { .. } => CommandError::conflict(format!(
            "the queue `{queue}` is gone, and with it whoever could handle this: drop it"
        )),
        error => CommandError::Unavailable {
            message: "the broker did not take the message; it is kept, try again shortly"
                .to_owned(),
            source: Some(Box::new(error)),
        },
    }
}
