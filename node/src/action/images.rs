//! The images that were built for a deployment: known before they are built, kept so that going back
//! needs no build, and no more of them than a few.

use super::Action;
use crate::core::Core;
use crate::journal::{DeploymentRecord, Draft};
use shared::id::DeploymentId;

/// How many images of a deployment are kept.
const KEPT: usize = 3;

/// Notes the image of an attempt, as the newest.
pub(super) fn note(draft: &mut Draft<'_>, action: &Action, image: Option<&str>) {
    let Some(image) = image else {
        return;
    };
    let mut record = action.record_in(draft);
    record.images.retain(|other| other != image);
    record.images.push(image.to_owned());
    draft.deployment_put(record);
}

/// What came of it does not serve: it is the first to go, before those that did. The one of what
/// serves stays where it is.
pub(super) fn demote(record: &mut DeploymentRecord, image: &str) {
    let serves = record.current.as_ref().is_some_and(|current| {
        image == crate::docker::image_tag(record.deployment_id, &current.content_hash)
    });
    if let Some(at) = record.images.iter().position(|other| other == image)
        && !serves
    {
        let image = record.images.remove(at);
        record.images.insert(0, image);
    }
}

/// Removes the images of a deployment beyond the newest few. Those in use refuse, and are tried again
/// the next time.
pub(super) async fn remove_old(core: &Core, deployment_id: DeploymentId) {
    let images = core.journal.read(|state| {
        state
            .deployments
            .get(&deployment_id)
            .map(|record| record.images.clone())
            .unwrap_or_default()
    });
    let mut gone = Vec::new();
    for old in images.iter().take(images.len().saturating_sub(KEPT)) {
        match core.runtime.image_remove(old).await {
            Ok(true) => gone.push(old),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%deployment_id, image = %old, %error, "an old image could not be removed yet");
                break;
            }
        }
    }
    if gone.is_empty() {
        return;
    }
    let edit = |draft: &mut Draft<'_>| {
        draft.deployment_edit(deployment_id, |record| {
            record.images.retain(|image| !gone.contains(&image));
        });
    };
    if let Err(error) = core.journal.change_soon(edit) {
        tracing::debug!(%error, "the next process removes old images again");
    }
}
