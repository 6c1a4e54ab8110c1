//! What the classic builder leaves behind: an image without a name for each step that it finished,
//! unless a later image is built on it. BuildKit leaves none.

use crate::docker::client::{Engine, QUICK};
use crate::docker::error::EngineError;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// How long the engine may take to let go of the container of a build that was given up.
const LET_GO: Duration = Duration::from_secs(5);

/// The time between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Removes those of these images that have no name, were made since `begun` and carry no other
    /// image; the newest first. The builder's words name them, and a step of a build can say the
    /// same words: what is older than the build is therefore never touched.
    pub(super) async fn remove_made_since<'a>(
        &self,
        begun: DateTime<Utc>,
        images: impl Iterator<Item = &'a str>,
    ) {
        for image in images {
            if let Err(error) = self.remove_if_made_since(begun, image).await {
                tracing::debug!(%image, %error, "an image that was made on the way to another stays");
            }
        }
    }

    async fn remove_if_made_since(
        &self,
        begun: DateTime<Utc>,
        image: &str,
    ) -> Result<(), EngineError> {
        let inspected = self
            .call("looking at an image", QUICK, |docker| async move {
                docker.inspect_image(image).await
            })
            .await;
        let found = match inspected {
            Ok(found) => found,
            // Removed together with the one that was built on it.
            Err(EngineError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_named = found.repo_tags.is_some_and(|tags| !tags.is_empty());
        let is_new = found.created.is_some_and(|created| created >= begun);
        if is_named || !is_new {
            return Ok(());
        }
        let removing = async {
            loop {
                match self.image_remove(image).await {
                    Err(EngineError::Conflict { message, .. }) if message.contains("container") => {
                        tokio::time::sleep(TRY_AGAIN).await;
                    }
                    removed => return removed.map(drop),
                }
            }
        };
        let doing = "removing an image";
        let removed = tokio::time::timeout(LET_GO, removing).await;
        removed.unwrap_or(Err(EngineError::Timeout { doing }))
    }
}
