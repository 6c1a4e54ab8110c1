//! Identifiers: one newtype each, so that swapping a node for a deployment does not compile.
//!
//! All are UUIDv7: they sort by the time they were made, which keeps database indexes dense and
//! lets a cursor be an id.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

fn fresh() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(id) = crate::simulation::uuid() {
        return id;
    }
    Uuid::now_v7()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, later than every id this process made before.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(fresh())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }

        #[cfg(feature = "sea-orm")]
        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                // Keys are made by us, never counted up by a database.
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

ids! {
    /// What a user names and manages: one source, many revisions.
    DeploymentId,
    /// One immutable version of a deployment.
    RevisionId,
    /// One machine of the fleet.
    NodeId,
    /// One work request; a node that sees it twice does it once.
    WorkId,
    /// One running orchestrator process, from start to end.
    OrchestratorId,
    /// One life of the store: changes when a database is restored from a backup.
    StoreIncarnation,
    /// One reader of a service log, from opening to closing.
    StreamId,
    /// One message that nobody could handle.
    DeadLetterId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let ids: Vec<RevisionId> = (0..100).map(|_| RevisionId::new()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = DeploymentId::new();
        assert_eq!(id.to_string().parse::<DeploymentId>().ok(), Some(id));
        assert!("not-an-id".parse::<DeploymentId>().is_err());
    }
}
