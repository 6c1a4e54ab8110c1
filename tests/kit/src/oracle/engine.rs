//! What a node has made in its engine, against the rows.

use super::Hand;
use super::rows::Rows;
use crate::docker;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is there and should not be, and the other way round.
pub(super) fn disagreements(node: &Hand, rows: &Rows) -> Vec<String> {
    let mut wrong = containers(node, rows);
    let living = |on_any: bool| -> BTreeSet<&str> {
        rows.deployments
            .iter()
            .filter(|deployment| {
                !deployment.gone && (on_any || deployment.node.as_deref() == Some(&node.name))
            })
            .map(|deployment| deployment.id.as_str())
            .collect()
    };
    // Nodes of these tests may share an engine, and then an image that another one still runs is that
    // one's to remove.
    let (here, anywhere) = (living(false), living(true));
    for kind in ["network", "image"] {
        for (id, deployment) in docker::made_by(node.engine.as_deref(), &node.name, kind) {
            let allowed = if kind == "image" { &anywhere } else { &here };
            if !allowed.contains(deployment.as_str()) {
                wrong.push(format!(
                    "{kind} {id} on {} is of {deployment}, which is not there",
                    node.name
                ));
            }
        }
    }
    wrong
}

fn containers(node: &Hand, rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: BTreeMap<String, Value> =
        docker::containers_of(node.engine.as_deref(), &node.name)
            .into_iter()
            .map(|container| (text(&container["Id"]), container))
            .collect();
    let on_node = rows
        .active()
        .filter(|(_, revision)| revision.node.as_deref() == Some(&node.name));
    for (deployment, revision) in on_node {
        let services: Vec<_> = rows
            .services
            .iter()
            .filter(|service| service.revision_id == revision.id)
            .collect();
        if services.is_empty() {
            wrong.push(format!(
                "revision {} of {} has no services",
                revision.number, deployment.id
            ));
        }
        for service in services {
            let id = service.container.clone().unwrap_or_default();
            let Some(container) = found.remove(&id) else {
                wrong.push(format!(
                    "{} of {} has no container on {}",
                    service.service, deployment.id, node.name
                ));
                continue;
            };
            let labels = &container["Config"]["Labels"];
            let is = [
                text(&labels["longshore.deployment"]),
                text(&labels["longshore.revision"]),
                text(&labels["longshore.epoch"]),
                text(&labels["longshore.service"]),
            ];
            let should_be = [
                deployment.id.clone(),
                revision.number.to_string(),
                revision.epoch.to_string(),
                service.service.clone(),
            ];
            if is != should_be {
                wrong.push(format!("container {id} is {is:?}, not {should_be:?}"));
            }
            let runs = container["State"]["Running"] == true;
            if runs != (revision.status == "RUNNING") {
                wrong.push(format!(
                    "container {id} runs: {runs}; its revision is {}",
                    revision.status
                ));
            }
        }
    }
    for (id, container) in found {
        let labels = &container["Config"]["Labels"];
        wrong.push(format!(
            "container {id} on {} is nobody's: {labels}",
            node.name
        ));
    }
    wrong
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}
