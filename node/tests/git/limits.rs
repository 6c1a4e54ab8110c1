//! Repositories that would fill a disk or a memory.

use crate::support::{CONFIG, DOCKERFILE, Place, blob, push_tree, tree};
use node::git::FetchError;
use std::time::{Duration, Instant};
use testkit::git_server::{GitServer, Repository};

/// The two files that every deployment needs, as lines of a tree.
fn needed(repository: &Repository) -> String {
    let (config, dockerfile) = (
        blob(repository, CONFIG.1.as_bytes()),
        blob(repository, DOCKERFILE.1.as_bytes()),
    );
    format!("100644 blob {config}\tConfig.toml\n100644 blob {dockerfile}\tDockerfile\n")
}

async fn too_large(place: &Place, repository: &Repository, words: &str) {
    let started = Instant::now();
    let error = place.refused(&repository.url).await;
    assert!(
        matches!(error, FetchError::TooLarge { .. }) && error.to_string().contains(words),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(
        place.leftovers(),
        Vec::<String>::new(),
        "the disk is given back"
    );
}

#[tokio::test]
async fn a_git_bomb_is_counted_not_unfolded() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let content = blob(&repository, b"boom");
    let mut level = (0..10)
        .map(|number| format!("100644 blob {content}\t{number}\n"))
        .collect::<String>();
    // Ten to the eleventh files.
    for _ in 0..10 {
        let inner = tree(&repository, &level);
        level = (0..10)
            .map(|number| format!("040000 tree {inner}\t{number}\n"))
            .collect();
    }
    let bomb = tree(&repository, &level);
    push_tree(
        &repository,
        &tree(
            &repository,
            &format!("{}040000 tree {bomb}\tx\n", needed(&repository)),
        ),
    );
    too_large(
        &Place::new(),
        &repository,
        "more than 200000 files and folders",
    )
    .await;
}

#[tokio::test]
async fn many_references_to_one_large_file_are_counted() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let content = blob(&repository, &vec![b'x'; 1 << 20]);
    let many = (0..3000)
        .map(|number| format!("100644 blob {content}\t{number}\n"))
        .collect::<String>();
    let many = tree(&repository, &many);
    push_tree(
        &repository,
        &tree(
            &repository,
            &format!("{}040000 tree {many}\tx\n", needed(&repository)),
        ),
    );
    too_large(&Place::new(), &repository, "bytes together").await;
}

#[tokio::test]
async fn a_huge_file_is_refused_before_it_is_loaded() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let file = std::fs::File::create(repository.work_tree().join("huge")).unwrap();
    file.set_len(40 << 20).unwrap();
    repository.push("huge");
    let mut place = Place::new();
    // The child's memory is limited in proportion: it could not load the file if it tried.
    place.limits.file_bytes = 1 << 20;
    too_large(
        &place,
        &repository,
        "a file of the repository has 41943040 bytes",
    )
    .await;
}

#[tokio::test]
async fn folders_within_folders_have_an_end() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let content = blob(&repository, b"deep");
    let mut level = tree(&repository, &format!("100644 blob {content}\tf\n"));
    for _ in 0..1000 {
        level = tree(&repository, &format!("040000 tree {level}\td\n"));
    }
    push_tree(
        &repository,
        &tree(
            &repository,
            &format!("{}040000 tree {level}\tx\n", needed(&repository)),
        ),
    );
    too_large(&Place::new(), &repository, "more than 64 deep").await;
}

#[tokio::test]
async fn received_bytes_are_limited() {
    let server = GitServer::start().await;
    let noise: String = (0..100_000u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let repository = server.repository("app", &[CONFIG, DOCKERFILE, ("noise", &noise)]);
    let mut place = Place::new();
    place.limits.received_bytes = 100_000;
    too_large(
        &place,
        &repository,
        "the server sent more than 100000 bytes",
    )
    .await;
}

#[tokio::test]
async fn a_fetch_ends_with_its_time() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let mut place = Place::new();
    place.limits.wall = Duration::ZERO;
    let error = place.fetch(&repository.url).await.unwrap_err();
    assert_eq!(error, FetchError::Timeout { seconds: 0 });
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
