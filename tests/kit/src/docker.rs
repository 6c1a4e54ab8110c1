//! What the engine itself says, by its own command line: the tests do not trust our client.

use serde_json::Value;

pub(crate) fn docker(arguments: &[&str]) -> String {
    docker_at(None, arguments)
}

/// The same of the engine at another address.
fn docker_at(engine: Option<&str>, arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker")
        .args(engine.iter().flat_map(|host| ["--host", host]))
        .args(arguments)
        .output()
        .expect("docker runs");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn label(deployment: &str) -> String {
    format!("label=longshore.deployment={deployment}")
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Removes an image by one of its names; one that a container uses loses the name only.
pub fn forget_image(image: &str) {
    docker(&["rmi", "--force", image]);
}

/// The ids of every container of a deployment, running or not.
pub fn containers(deployment: &str) -> Vec<String> {
    lines(&docker(&[
        "ps",
        "--all",
        "--quiet",
        "--no-trunc",
        "--filter",
        &label(deployment),
    ]))
}

/// The ids of its running containers.
pub fn running(deployment: &str) -> Vec<String> {
    lines(&docker(&[
        "ps",
        "--quiet",
        "--no-trunc",
        "--filter",
        &label(deployment),
    ]))
}

/// Everything of a deployment that the engine knows, as `kind name` lines. Volumes are apart: they stay unless asked.
pub fn leftovers(deployment: &str) -> Vec<String> {
    let filter = label(deployment);
    let mut found: Vec<String> = containers(deployment)
        .into_iter()
        .map(|id| format!("container {id}"))
        .collect();
    found.extend(
        lines(&docker(&["network", "ls", "--quiet", "--filter", &filter]))
            .into_iter()
            .map(|id| format!("network {id}")),
    );
    found.extend(
        lines(&docker(&[
            "images", "--all", "--quiet", "--filter", &filter,
        ]))
        .into_iter()
        .map(|id| format!("image {id}")),
    );
    found
}

/// What the engine says of a container.
pub fn inspect(container: &str) -> Value {
    let mut list: Value = serde_json::from_str(&docker(&["inspect", container])).expect("JSON");
    list[0].take()
}

/// kill -9 of what runs in a container.
pub fn kill(container: &str) {
    docker(&["kill", "--signal", "KILL", container]);
}

/// The engine's socket.
pub fn socket() -> std::path::PathBuf {
    let host =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    host.strip_prefix("unix://")
        .expect("these tests need a Unix socket")
        .into()
}

/// Everything that the engine says of every container that a node made, running or not.
pub fn containers_of(engine: Option<&str>, node: &str) -> Vec<Value> {
    let filter = format!("label=longshore.node={node}");
    let list = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
    let ids = lines(&docker_at(engine, &list));
    // One that is gone meanwhile is an error of the command, which prints the others all the same.
    let mut found = Vec::new();
    for some in ids.chunks(100) {
        let output = std::process::Command::new("docker")
            .args(engine.iter().flat_map(|host| ["--host", host]))
            .arg("inspect")
            .args(some)
            .output()
            .expect("docker runs");
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        found.extend(list);
    }
    found
}

/// The id and the deployment of every `network` or `image` that a node made.
pub fn made_by(engine: Option<&str>, node: &str, kind: &str) -> Vec<(String, String)> {
    let filter = format!("label=longshore.node={node}");
    // Images have no labels in a list, but are named after their deployment.
    let (format, name) = match kind {
        "image" => ("{{.ID}} {{.Repository}}", "longshore/"),
        _ => ("{{.ID}} {{.Label \"longshore.deployment\"}}", ""),
    };
    let list = [
        kind,
        "ls",
        "--no-trunc",
        "--filter",
        &filter,
        "--format",
        format,
    ];
    lines(&docker_at(engine, &list))
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, of)| (id.to_owned(), of.trim_start_matches(name).to_owned()))
        .collect()
}

/// Removes what a node made, after a test that failed; what does not go is shown.
pub fn remove_made_by(node: &str) {
    // All at once: the command line removes many side by side.
    let remove = |kind: &[&str], ids: Vec<String>| {
        if ids.is_empty() {
            return;
        }
        let output = std::process::Command::new("docker")
            .args(kind)
            .args(&ids)
            .output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("docker {kind:?}: {output:?}");
        }
    };
    let ids = |made: Vec<(String, String)>| made.into_iter().map(|(id, _)| id).collect();
    let containers = containers_of(None, node);
    let containers = containers
        .iter()
        .filter_map(|container| container["Id"].as_str().map(str::to_owned));
    remove(&["rm", "--force", "--volumes"], containers.collect());
    remove(&["network", "rm"], ids(made_by(None, node, "network")));
    remove(
        &["image", "rm", "--force"],
        ids(made_by(None, node, "image")),
    );
}
