//! Names and labels of what a node makes, so that a node that restarts knows what it runs and
//! nothing else is ever touched.

use shared::id::{DeploymentId, StoreIncarnation};
use shared::name::{DeploymentName, NodeName, ServiceName};
use std::collections::HashMap;

/// The deployment's id.
pub const DEPLOYMENT: &str = "longshore.deployment";
/// The service's name.
pub const SERVICE: &str = "longshore.service";
/// The revision's number.
pub const REVISION: &str = "longshore.revision";
/// The attempt.
pub const EPOCH: &str = "longshore.epoch";
/// The node's name: two nodes may share one engine, and each touches only its own.
pub const NODE: &str = "longshore.node";

/// The store of the orchestrator that ordered it: on one engine two installations may each have a node
/// of the same name.
pub const STORE: &str = "longshore.store";

/// The part of the label namespace that is ours.
pub(super) const RESERVED: &str = "longshore.";

/// Whose a container is: what its labels say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The service.
    pub service: ServiceName,
    /// The revision's number.
    pub revision: i32,
    /// The attempt.
    pub epoch: i32,
    /// The node that made it.
    pub node: NodeName,
    /// The store of the orchestrator that ordered it.
    pub store: Option<StoreIncarnation>,
}

impl Owner {
    /// As labels.
    #[must_use]
    pub fn to_labels(&self) -> HashMap<String, String> {
        let mut labels = of_deployment(self.deployment, &self.node);
        labels.insert(SERVICE.to_owned(), self.service.to_string());
        labels.insert(REVISION.to_owned(), self.revision.to_string());
        labels.insert(EPOCH.to_owned(), self.epoch.to_string());
        if let Some(store) = self.store {
            labels.insert(STORE.to_owned(), store.to_string());
        }
        labels
    }

    /// From labels; none when one is missing or not of our making.
    #[must_use]
    pub fn from_labels(labels: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            deployment: labels.get(DEPLOYMENT)?.parse().ok()?,
            service: ServiceName::parse(labels.get(SERVICE)?).ok()?,
            revision: labels.get(REVISION)?.parse().ok()?,
            epoch: labels.get(EPOCH)?.parse().ok()?,
            node: NodeName::parse(labels.get(NODE)?).ok()?,
            store: labels.get(STORE).and_then(|store| store.parse().ok()),
        })
    }
}

/// The labels of what belongs to a deployment as a whole.
pub(super) fn of_deployment(deployment: DeploymentId, node: &NodeName) -> HashMap<String, String> {
    HashMap::from([
        (DEPLOYMENT.to_owned(), deployment.to_string()),
        (NODE.to_owned(), node.to_string()),
    ])
}

/// A filter of the engine's lists: things that have all these labels.
pub(super) fn filter<const N: usize>(wanted: [(&str, &str); N]) -> HashMap<String, Vec<String>> {
    let wanted = wanted
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    HashMap::from([("label".to_owned(), wanted)])
}

/// The name of a container: readable, and of one attempt only.
#[must_use]
pub fn container_name(name: &DeploymentName, owner: &Owner) -> String {
    let id = owner.deployment.0.simple().to_string();
    // The tail of a UUIDv7 is random; its head is the time, which neighbours share.
    let tail = &id[id.len() - 8..];
    format!(
        "longshore-{name}-{}-{}-{}-{tail}",
        owner.service, owner.revision, owner.epoch
    )
}

/// The name of a deployment's network.
#[must_use]
pub fn network_name(deployment: DeploymentId) -> String {
    format!("longshore-{deployment}")
}

/// The name of a deployment's volume.
#[must_use]
pub fn volume_name(deployment: DeploymentId, volume: &ServiceName) -> String {
    format!("longshore-{deployment}-{volume}")
}

/// The tag of an image that is built for a deployment, by the hash of all that it is built from.
/// The id keeps it out of reach of other deployments' `FROM` and `COPY --from`.
#[must_use]
pub fn image_tag(deployment: DeploymentId, content_hash: &str) -> String {
    let end = content_hash.floor_char_boundary(16);
    format!("{}:{}", image_repository(deployment), &content_hash[..end])
}

/// What all images that are built for a deployment are tagged under.
pub(super) fn image_repository(deployment: DeploymentId) -> String {
    format!("longshore/{deployment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            deployment: DeploymentId::new(),
            service: ServiceName::app(),
            revision: 3,
            epoch: 2,
            node: NodeName::parse("n1").unwrap(),
            store: Some(StoreIncarnation::new()),
        }
    }

    #[test]
    fn an_owner_reads_back_from_its_labels() {
        let owner = owner();
        let mut labels = owner.to_labels();
        assert_eq!(Owner::from_labels(&labels), Some(owner));
        labels.insert(EPOCH.to_owned(), "x".to_owned());
        assert_eq!(Owner::from_labels(&labels), None);
    }

    #[test]
    fn names_tell_whose_a_thing_is() {
        let owner = owner();
        let name = container_name(&DeploymentName::parse("hello").unwrap(), &owner);
        assert!(name.starts_with("longshore-hello-app-3-2-"), "{name}");
        assert_eq!(
            image_tag(owner.deployment, &"a".repeat(64)),
            format!("longshore/{}:{}", owner.deployment, "a".repeat(16))
        );
    }
}
