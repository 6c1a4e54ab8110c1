//! What belongs to many rows, read in one query for all of them.
//!
//! Each kind of question is a key; what is asked within a millisecond, by one request or by many,
//! goes to the engine together. Nothing is cached: a row may change between two questions.

use crate::error::ApiError;
use async_graphql::Context;
use async_graphql::dataloader::{DataLoader, Loader};
use orchestrator::Queries;
use orchestrator::query::{Page, PageOf};
use orchestrator::view::{LabelView, NodeView, PortLeaseView, RevisionView, ServiceView};
use shared::id::{DeadLetterId, DeploymentId, NodeId, RevisionId};
use shared::message::StatusEvent;
use std::collections::HashMap;
use std::hash::Hash;

/// Reads for many keys at once.
pub(crate) struct Batches {
    queries: Queries,
}

/// The loader that resolvers ask.
pub(crate) type Loaders = DataLoader<Batches>;

/// A loader over the engine's reads.
pub(crate) fn loaders(queries: Queries) -> Loaders {
    DataLoader::new(Batches { queries }, tokio::spawn)
}

/// One answer, through the loader of this schema.
pub(crate) async fn load<K>(
    ctx: &Context<'_>,
    key: K,
) -> Result<Option<<Batches as Loader<K>>::Value>, ApiError>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    Batches: Loader<K, Error = ApiError>,
{
    let loaders = ctx
        .data_opt::<Loaders>()
        .ok_or_else(|| ApiError::internal(&NoLoaders))?;
    loaders.load_one(key).await
}

/// The schema was built without its loaders: only a mistake of ours can do that.
#[derive(Debug, thiserror::Error)]
#[error("the schema has no loaders")]
struct NoLoaders;

/// The node with this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeOf(pub(crate) NodeId);
/// The revision with this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RevisionOf(pub(crate) RevisionId);
/// The recorded steps of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EventsOf(pub(crate) RevisionId);
/// The ports that a deployment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortsOf(pub(crate) DeploymentId);
/// The services of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServicesOf(pub(crate) DeploymentId);
/// The labels of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LabelsOf(pub(crate) DeploymentId);
/// The body of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeadLetterBodyOf(pub(crate) DeadLetterId);
/// A page of a deployment's revisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RevisionsOf {
    pub(crate) deployment: DeploymentId,
    pub(crate) first: Option<i32>,
    pub(crate) after: Option<String>,
}

/// Makes a key of one id a batched read: the key, its value, the engine's read.
macro_rules! batched {
    ($($key:ident($id:ty) -> $value:ty, $name:literal, $read:ident;)+) => {$(
        impl Loader<$key> for Batches {
            type Value = $value;
            type Error = ApiError;

            async fn load(&self, keys: &[$key]) -> Result<HashMap<$key, $value>, ApiError> {
                count($name);
                let ids: Vec<$id> = keys.iter().map(|key| key.0).collect();
                let found = self.queries.$read(&ids).await?;
                Ok(found.into_iter().map(|(id, value)| ($key(id), value)).collect())
            }
        }
    )+};
}

batched! {
    NodeOf(NodeId) -> NodeView, "nodes", nodes_by_ids;
    RevisionOf(RevisionId) -> RevisionView, "revisions", revisions_by_ids;
    EventsOf(RevisionId) -> Vec<StatusEvent>, "events", events_of;
    PortsOf(DeploymentId) -> Vec<PortLeaseView>, "ports", ports_of;
    ServicesOf(DeploymentId) -> Vec<ServiceView>, "services", services_of;
    LabelsOf(DeploymentId) -> Vec<LabelView>, "labels", labels_of;
    DeadLetterBodyOf(DeadLetterId) -> String, "dead letter bodies", dead_letter_bodies;
}

impl Loader<RevisionsOf> for Batches {
    type Value = PageOf<RevisionView>;
    type Error = ApiError;

    async fn load(
        &self,
        keys: &[RevisionsOf],
    ) -> Result<HashMap<RevisionsOf, PageOf<RevisionView>>, ApiError> {
        // Under two aliases one request may ask for two pages of each.
        let mut asked: HashMap<(Option<i32>, Option<&str>), Vec<DeploymentId>> = HashMap::new();
        for key in keys {
            let which = (key.first, key.after.as_deref());
            asked.entry(which).or_default().push(key.deployment);
        }
        let mut pages = HashMap::with_capacity(keys.len());
        for ((first, after), deployments) in asked {
            count("revision pages");
            let after = after.map(str::to_owned);
            let page = Page {
                first,
                after: after.clone(),
            };
            let found = self.queries.revisions_pages(&deployments, &page).await?;
            pages.extend(found.into_iter().map(|(deployment, page)| {
                let after = after.clone();
                (
                    RevisionsOf {
                        deployment,
                        first,
                        after,
                    },
                    page,
                )
            }));
        }
        Ok(pages)
    }
}

fn count(of: &'static str) {
    metrics::counter!("longshore_api_batches_total", "of" => of).increment(1);
}
