//! What the engine itself says, by its own command line: the tests do not trust our client.

use serde_json::Value;

fn docker(arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker")
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
