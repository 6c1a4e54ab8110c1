//! Repositories that cannot be deployed: each with its reason and words that help.

use crate::support::{CONFIG, DOCKERFILE, Place, blob, push_tree, tree};
use node::git::{FetchError, fetch};
use shared::source::CommitId;
use shared::status::FailureReason;
use std::os::unix::fs::symlink;
use std::sync::OnceLock;
use testkit::git_server::GitServer;

async fn check(files: &[(&str, &str)], reason: FailureReason, words: &str) {
    let server = GitServer::start().await;
    let repository = server.repository("app", files);
    let error = Place::new().refused(&repository.url).await;
    assert_eq!(error.reason(), reason, "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn no_configuration() {
    check(
        &[("README", "x")],
        FailureReason::ConfigMissing,
        "no Config.toml, Shipwreck.toml or shipwreck.toml at its root",
    )
    .await;
    check(
        &[("config.toml", CONFIG.1), DOCKERFILE],
        FailureReason::ConfigMissing,
        "it has `config.toml`: call that Config.toml",
    )
    .await;
    check(
        &[("web/Config.toml", CONFIG.1), ("docs/README", "x")],
        FailureReason::ConfigMissing,
        "there is one in `web`: name that folder as the subdir",
    )
    .await;
    // Which commit it was is known all the same.
    let server = GitServer::start().await;
    let repository = server.repository("app", &[("README", "x")]);
    let head = repository.commit("more", &[("README", "y")]);
    let (place, found) = (Place::new(), OnceLock::new());
    let order = place.order(&repository.url);
    fetch(order, &found, &place.log, &place.cancel)
        .await
        .unwrap_err();
    assert_eq!(found.get().map(CommitId::as_str), Some(head.as_str()));
    // Kraken's names still count.
    let server = GitServer::start().await;
    let repository = server.repository("app", &[("shipwreck.toml", CONFIG.1), DOCKERFILE]);
    Place::new().fetch(&repository.url).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_is_wrong() {
    check(
        &[("Config.toml", "[config\n"), DOCKERFILE],
        FailureReason::ConfigInvalid,
        "Config.toml",
    )
    .await;
    check(
        &[(
            "Config.toml",
            "[config]\nport = 70000\ndockerfile = \"Dockerfile\"\n",
        )],
        FailureReason::ConfigInvalid,
        "port",
    )
    .await;
    check(
        &[("Config.toml/x", "y")],
        FailureReason::ConfigInvalid,
        "Config.toml is a folder",
    )
    .await;
    let large = format!("# {}\n{}", "x".repeat(300 << 10), CONFIG.1);
    check(
        &[("Config.toml", &large)],
        FailureReason::ConfigInvalid,
        "more than 262144 bytes",
    )
    .await;
}

#[tokio::test]
async fn a_configuration_that_is_a_link_is_not_followed() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[DOCKERFILE]);
    symlink("/etc/passwd", repository.work_tree().join("Config.toml")).unwrap();
    repository.push("link");
    let error = Place::new().refused(&repository.url).await;
    assert_eq!(
        error,
        FetchError::ConfigInvalid {
            detail: "Config.toml is a symbolic link; it has to be a file".to_owned()
        }
    );
}

#[tokio::test]
async fn a_dockerfile_that_is_not_there_or_not_a_file() {
    check(
        &[CONFIG],
        FailureReason::DockerfileMissing,
        "no file `Dockerfile`",
    )
    .await;
    check(
        &[CONFIG, ("Dockerfile/x", "y")],
        FailureReason::ConfigInvalid,
        "a folder",
    )
    .await;
    let server = GitServer::start().await;
    for (name, target) in [("out", "/etc/passwd"), ("up", "../x"), ("inside", "real")] {
        let repository = server.repository(name, &[CONFIG, ("real", "FROM busybox\n")]);
        symlink(target, repository.work_tree().join("Dockerfile")).unwrap();
        repository.push("link");
        let error = Place::new().refused(&repository.url).await;
        assert_eq!(error.reason(), FailureReason::ConfigInvalid, "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    let config = "[config]\ndockerfile = \"docker/Dockerfile\"\nport = 8000\n";
    let repository = server.repository("folder", &[("Config.toml", config)]);
    symlink("/etc", repository.work_tree().join("docker")).unwrap();
    repository.push("link");
    let error = Place::new().refused(&repository.url).await;
    assert!(
        error.to_string().contains("`docker` is a symbolic link"),
        "{error}"
    );
}

#[tokio::test]
async fn a_foreign_builder() {
    check(
        &[
            CONFIG,
            (
                "Dockerfile",
                "# syntax=evil.example/builder\nFROM busybox\n",
            ),
        ],
        FailureReason::ConfigInvalid,
        "evil.example/builder",
    )
    .await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_or_not_a_folder() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE, ("docs/README", "x")]);
    symlink("docs", repository.work_tree().join("link")).unwrap();
    repository.push("link");
    for (subdir, reason) in [
        ("nowhere", FailureReason::ConfigMissing),
        ("docs", FailureReason::ConfigMissing),
        ("Dockerfile", FailureReason::ConfigInvalid),
        ("link", FailureReason::ConfigInvalid),
    ] {
        let error = Place::new()
            .fetch_subdir(&repository.url, subdir)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{subdir}: {error}");
    }
}

#[tokio::test]
async fn nothing_to_start() {
    let config = "[config]\nlang = \"python3\"\nport = 8000\n";
    check(
        &[("Config.toml", config)],
        FailureReason::ConfigInvalid,
        "main.py",
    )
    .await;
}

#[tokio::test]
async fn names_that_are_not_names() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let (config, dockerfile) = (
        blob(&repository, CONFIG.1.as_bytes()),
        blob(&repository, DOCKERFILE.1.as_bytes()),
    );
    for name in [".git", "..", ".GIT", "git~1"] {
        let inner = tree(
            &repository,
            &format!("100755 blob {dockerfile}\tpost-checkout\n"),
        );
        let root = tree(
            &repository,
            &format!(
                "100644 blob {config}\tConfig.toml\n100644 blob {dockerfile}\tDockerfile\n040000 tree {inner}\t{name}\n"
            ),
        );
        push_tree(&repository, &root);
        let error = Place::new().refused(&repository.url).await;
        assert_eq!(
            error.reason(),
            FailureReason::FetchFailed,
            "{name}: {error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}
