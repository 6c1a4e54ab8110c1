//! The build context: what is in the tar, and when it counts as the same.

use crate::support::{CONFIG, DOCKERFILE, Entry, Place, paths};
use node::git::Fetched;
use std::os::unix::fs::{PermissionsExt, symlink};
use tar::EntryType;
use testkit::git_server::GitServer;

fn find<'e>(entries: &'e [Entry], path: &str) -> &'e Entry {
    entries
        .iter()
        .find(|entry| entry.path == path)
        .unwrap_or_else(|| panic!("no {path} in {:?}", paths(entries)))
}

#[tokio::test]
async fn the_tree_as_it_is() {
    let server = GitServer::start().await;
    let long = format!("{}/{}/file", "d".repeat(120), "e".repeat(120));
    let repository = server.repository(
        "app",
        &[
            CONFIG,
            DOCKERFILE,
            ("a/b/c", "deep"),
            ("run.sh", "#!/bin/sh\n"),
            (&long, "x"),
        ],
    );
    let tree = repository.work_tree();
    std::fs::set_permissions(tree.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", tree.join("absolute")).unwrap();
    symlink("../../..", tree.join("a/up")).unwrap();
    repository.push("more");
    let place = Place::new();
    let (dockerfile, entries) = place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert_eq!(dockerfile, "Dockerfile");
    let deep = long.trim_end_matches("/file");
    assert_eq!(
        paths(&entries),
        [
            "Config.toml",
            "Dockerfile",
            "a",
            "a/b",
            "a/b/c",
            "a/up",
            "absolute",
            &deep[..120],
            deep,
            &long,
            "run.sh"
        ]
    );
    assert_eq!(
        (find(&entries, "a/b").kind, find(&entries, "a/b").mode),
        (EntryType::Directory, 0o755)
    );
    assert_eq!(
        (
            find(&entries, "a/b/c").content.as_slice(),
            find(&entries, "a/b/c").mode
        ),
        (&b"deep"[..], 0o644)
    );
    assert_eq!(find(&entries, "run.sh").mode, 0o755);
    for (path, target) in [("absolute", "/etc/passwd"), ("a/up", "../../..")] {
        let link = find(&entries, path);
        assert_eq!(
            (link.kind, link.link.as_deref()),
            (EntryType::Symlink, Some(target))
        );
    }
    // The engine takes a leading pax header for something else than a build context.
    let tar = std::fs::read(place.dir.path().join("context.tar")).unwrap();
    assert!(tar[257..].starts_with(b"ustar  ") && tar[156] == b'0');

    // The same commit gives the same bytes.
    place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert!(tar == std::fs::read(place.dir.path().join("context.tar")).unwrap());
}

#[tokio::test]
async fn what_dockerignore_leaves_out() {
    let server = GitServer::start().await;
    let repository = server.repository(
        "app",
        &[
            CONFIG,
            DOCKERFILE,
            (".dockerignore", "*\n!src\nsrc/**/*.log\n"),
            ("src/main", "1"),
            ("src/x/y.log", "2"),
            ("secret", "3"),
        ],
    );
    let place = Place::new();
    let (_, entries) = place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert_eq!(
        paths(&entries),
        [".dockerignore", "Dockerfile", "src", "src/main"]
    );

    // The Dockerfile's own ignore file comes first.
    repository.commit("own", &[("Dockerfile.dockerignore", "src")]);
    let (_, entries) = place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert!(paths(&entries).contains(&"secret") && !paths(&entries).contains(&"src"));
}

#[tokio::test]
async fn a_folder_of_the_repository() {
    let server = GitServer::start().await;
    let inside = [
        ("web/Config.toml", CONFIG.1),
        ("web/Dockerfile", DOCKERFILE.1),
        ("other", "x"),
    ];
    let repository = server.repository("app", &inside);
    let place = Place::new();
    let fetched = place.fetch_subdir(&repository.url, "web").await.unwrap();
    let hash = fetched.content_hash.clone();
    let (_, entries) = place.context(fetched).await;
    assert_eq!(paths(&entries), ["Config.toml", "Dockerfile"]);
    // What is beside it is not part of it.
    repository.commit("other", &[("other", "y")]);
    assert_eq!(
        place
            .fetch_subdir(&repository.url, "web")
            .await
            .unwrap()
            .content_hash,
        hash
    );
}

#[tokio::test]
async fn a_syntax_line_of_docker_is_left_out() {
    let server = GitServer::start().await;
    let repository = server.repository(
        "app",
        &[
            CONFIG,
            (
                "Dockerfile",
                "# syntax=docker/dockerfile:1.4\nFROM busybox\n",
            ),
        ],
    );
    let mut place = Place::new();
    let (_, entries) = place
        .context(place.fetch(&repository.url).await.unwrap())
        .await;
    assert_eq!(find(&entries, "Dockerfile").content, b"FROM busybox\n");
    assert!(
        place
            .lines
            .texts()
            .iter()
            .any(|line| line.contains("# syntax="))
    );
}

#[tokio::test]
async fn built_in_dockerfiles_keep_apart_from_the_application() {
    let server = GitServer::start().await;
    let config = |lang: &str| format!("[config]\nlang = \"{lang}\"\nport = 8080\n");
    let place = Place::new();
    let python = server.repository(
        "python",
        &[
            ("Config.toml", &config("python3")),
            ("main.py", "1"),
            ("Dockerfile", "own"),
        ],
    );
    let (dockerfile, entries) = place.context(place.fetch(&python.url).await.unwrap()).await;
    assert_eq!(dockerfile, "Dockerfile");
    assert_eq!(
        paths(&entries),
        [
            "Dockerfile",
            "app",
            "app/Config.toml",
            "app/Dockerfile",
            "app/main.py"
        ]
    );
    let text = String::from_utf8(find(&entries, "Dockerfile").content.clone()).unwrap();
    assert!(
        text.starts_with("FROM python:3-slim\n") && text.contains("ENV PORT=8080"),
        "{text}"
    );

    // How it is deployed is not for visitors.
    let pages = server.repository(
        "pages",
        &[("Config.toml", &config("static")), ("index.html", "hello")],
    );
    let (_, entries) = place.context(place.fetch(&pages.url).await.unwrap()).await;
    assert_eq!(paths(&entries), ["Dockerfile", "app", "app/index.html"]);
}

#[tokio::test]
async fn the_content_hash_says_whether_to_build() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE, ("a", "1")]);
    let mut place = Place::new();
    let hash = |fetched: Fetched| fetched.content_hash.clone();
    let first = hash(place.fetch(&repository.url).await.unwrap());
    repository.commit("nothing changed", &[]);
    assert_eq!(hash(place.fetch(&repository.url).await.unwrap()), first);
    repository.commit("changed", &[("a", "2")]);
    let changed = hash(place.fetch(&repository.url).await.unwrap());
    assert_ne!(changed, first);
    repository.commit("back", &[("a", "1")]);
    assert_eq!(hash(place.fetch(&repository.url).await.unwrap()), first);

    // Another base image is another image.
    let config = "[config]\nlang = \"static\"\nport = 8080\n";
    let pages = server.repository("pages", &[("Config.toml", config), ("index.html", "hello")]);
    let with_default = hash(place.fetch(&pages.url).await.unwrap());
    place.limits = node::git::FetchLimits::default();
    let mut order = place.order(&pages.url);
    order.builtin.static_files = shared::source::ImageRef::parse("other:1").unwrap();
    assert_ne!(hash(place.run(order).await.unwrap()), with_default);
}

#[tokio::test]
async fn a_context_that_cannot_be_written_leaves_nothing() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let fetched = place.fetch(&repository.url).await.unwrap();
    let to = place.dir.path().join("nowhere/context.tar");
    assert!(fetched.write_context(&to).await.is_err());

    let fetched = place.fetch(&repository.url).await.unwrap();
    let to = place.dir.path().join("context.tar");
    place.cancel.cancel();
    assert_eq!(
        fetched.write_context(&to).await,
        Err(node::git::FetchError::Cancelled)
    );
    assert!(!to.exists());
}
