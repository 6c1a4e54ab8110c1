//! Repositories within the repository.

use crate::support::{CONFIG, DOCKERFILE, Place, bare, git, paths};
use shared::status::FailureReason;
use testkit::git_server::{GitServer, Repository};

/// Adds `inner` as a submodule at `path` with the address `url`.
pub(crate) fn add(repository: &Repository, inner: &Repository, path: &str, url: &str) {
    let commit = git(inner, &["rev-parse", "HEAD"], b"");
    let modules = repository.work_tree().join(".gitmodules");
    let mut text = std::fs::read_to_string(&modules).unwrap_or_default();
    text.push_str(&format!(
        "[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n"
    ));
    std::fs::write(modules, text).unwrap();
    git(
        repository,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{commit},{path}"),
        ],
        b"",
    );
    git(repository, &["add", ".gitmodules"], b"");
    git(repository, &["commit", "--quiet", "-m", "submodule"], b"");
    git(
        repository,
        &[
            "push",
            "--quiet",
            bare(repository).to_str().unwrap(),
            "HEAD:main",
        ],
        b"",
    );
}

#[tokio::test]
async fn they_stand_under_their_path_also_nested_and_relative() {
    let server = GitServer::start().await;
    let leaf = server.repository("leaf", &[("leaf", "1")]);
    let middle = server.repository("middle", &[("middle", "1")]);
    add(&middle, &leaf, "deep/leaf", "../leaf.git");
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    add(&repository, &middle, "lib/middle", &middle.url);
    let place = Place::new();
    let fetched = place.fetch(&repository.url).await.unwrap();
    let hash = fetched.content_hash.clone();
    let (_, entries) = place.context(fetched).await;
    let paths = paths(&entries);
    for path in ["lib/middle/middle", "lib/middle/deep/leaf/leaf"] {
        assert!(paths.contains(&path), "{paths:?}");
    }
    // Another commit of it is another content.
    middle.commit("new", &[("middle", "2")]);
    git(
        &repository,
        &["rm", "--quiet", "--cached", "lib/middle", ".gitmodules"],
        b"",
    );
    std::fs::remove_file(repository.work_tree().join(".gitmodules")).unwrap();
    add(&repository, &middle, "lib/middle", &middle.url);
    assert_ne!(
        place.fetch(&repository.url).await.unwrap().content_hash,
        hash
    );
}

#[tokio::test]
async fn addresses_that_are_refused() {
    let server = GitServer::start().await;
    let inner = server.repository("inner", &[("x", "1")]);
    for (number, (path, url, words)) in [
        ("lib", "file:///etc/x", "not allowed"),
        ("lib", "/etc/x", "not a Git URL"),
        ("lib", "ext::sh -c true", "not a Git URL"),
        ("lib", "-uexec", "not a Git URL"),
        ("lib", "../../../../x", "stay on its parent's server"),
        ("lib", "http://169.254.169.254/x", "link-local"),
        ("lib", "http://user:hunter2@127.0.0.1/x", "credentials"),
        ("../lib", "https://x.example/y", "path in the repository"),
    ]
    .into_iter()
    .enumerate()
    {
        let repository = server.repository(&format!("app{number}"), &[CONFIG, DOCKERFILE]);
        if path == "lib" {
            add(&repository, &inner, path, url);
        } else {
            add(&repository, &inner, "lib", "https://x.example/y");
            let evil = "[submodule \"lib\"]\n\tpath = ../lib\n\turl = https://x.example/y\n";
            std::fs::write(repository.work_tree().join(".gitmodules"), evil).unwrap();
            git(
                &repository,
                &["commit", "--quiet", "-m", "evil", ".gitmodules"],
                b"",
            );
            git(
                &repository,
                &[
                    "push",
                    "--quiet",
                    bare(&repository).to_str().unwrap(),
                    "HEAD:main",
                ],
                b"",
            );
        }
        let mut place = Place::new();
        // Leave for the repository's address is not leave for its submodules'.
        place.policy.file_allowed = true;
        let error = place.refused(&repository.url).await;
        assert_eq!(error.reason(), FailureReason::FetchFailed, "{url}: {error}");
        assert!(
            error.to_string().contains(words) && !error.to_string().contains("hunter2"),
            "{url}: {error}"
        );
    }
}

#[tokio::test]
async fn they_are_limited_in_number_depth_and_size() {
    let server = GitServer::start().await;
    let mut inner = server.repository("level0", &[("x", "1")]);
    for level in 1..=4 {
        let outer = server.repository(&format!("level{level}"), &[CONFIG, DOCKERFILE]);
        add(&outer, &inner, "in", &inner.url);
        inner = outer;
    }
    let error = Place::new().refused(&inner.url).await;
    assert!(error.to_string().contains("more than 3 deep"), "{error}");

    let leaf = server.repository("leaf", &[("x", "1")]);
    let many = server.repository("many", &[CONFIG, DOCKERFILE]);
    for number in 0..3 {
        add(&many, &leaf, &format!("m{number}"), &leaf.url);
    }
    let mut place = Place::new();
    place.limits.submodules = 2;
    assert!(
        place
            .refused(&many.url)
            .await
            .to_string()
            .contains("more than 2 submodules")
    );
    let mut place = Place::new();
    // Three files and three submodules of one file each; each of the four trees counts as one more.
    place.limits.files = 12;
    assert!(
        place
            .refused(&many.url)
            .await
            .to_string()
            .contains("more than 12 files")
    );
    place.limits.files = 13;
    place.fetch(&many.url).await.unwrap();
}

#[tokio::test]
async fn one_without_an_address_stays_an_empty_folder() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    add(&repository, &repository, "lib", &repository.url);
    std::fs::remove_file(repository.work_tree().join(".gitmodules")).unwrap();
    git(
        &repository,
        &["rm", "--quiet", "--cached", ".gitmodules"],
        b"",
    );
    git(
        &repository,
        &["commit", "--quiet", "-m", "no addresses"],
        b"",
    );
    git(
        &repository,
        &[
            "push",
            "--quiet",
            bare(&repository).to_str().unwrap(),
            "HEAD:main",
        ],
        b"",
    );
    let mut place = Place::new();
    let (_, entries) = place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert_eq!(paths(&entries), ["Config.toml", "Dockerfile", "lib"]);
    assert!(
        place
            .lines
            .texts()
            .iter()
            .any(|line| line.contains("`lib` is a submodule without an address"))
    );
}

#[tokio::test]
async fn a_missing_commit_is_named() {
    let server = GitServer::start().await;
    let inner = server.repository("inner", &[("x", "1")]);
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    add(&repository, &repository, "lib", &inner.url);
    let error = Place::new().refused(&repository.url).await;
    assert!(
        error.to_string().contains("submodule `lib`")
            && error.to_string().contains("leads to commit")
            && error.to_string().ends_with("push it on a branch"),
        "{error}"
    );
}
