//! Which commit is fetched, and what is kept for the next time.

use crate::support::{CONFIG, DOCKERFILE, Place, bare, git};
use node::git::FetchError;
use shared::source::{CommitId, GitRef};
use testkit::git_server::{GitServer, Repository};

fn detail(error: &FetchError) -> String {
    assert!(matches!(error, FetchError::Failed { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn the_default_branch_a_branch_a_tag_a_full_ref_and_a_commit() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let first = git(&repository, &["rev-parse", "HEAD"], b"");
    git(&repository, &["tag", "-a", "v1", "-m", "one"], b"");
    git(
        &repository,
        &[
            "push",
            "--quiet",
            bare(&repository).to_str().unwrap(),
            "v1",
            "HEAD:refs/heads/feature/x",
        ],
        b"",
    );
    let second = repository.commit("second", &[("new", "2")]);

    let mut place = Place::new();
    let url = &repository.url;
    assert_eq!(place.fetch(url).await.unwrap().commit.as_str(), second);
    assert!(
        place
            .lines
            .texts()
            .iter()
            .any(|line| *line == format!("commit {second} (second)"))
    );
    for (git_ref, commit) in [
        ("main", &second),
        ("feature/x", &first),
        ("v1", &first),
        ("refs/tags/v1", &first),
        (&*first, &first),
    ] {
        let place = Place::new();
        assert_eq!(
            place.fetch_ref(url, git_ref).await.unwrap().commit.as_str(),
            commit,
            "{git_ref}"
        );
    }
    assert_eq!(
        Place::new()
            .fetch_commit(url, &first)
            .await
            .unwrap()
            .commit
            .as_str(),
        first
    );
}

/// As Git serves a repository where nobody configured anything.
fn give_out_nothing_by_id(repository: &Repository) {
    for option in [
        "uploadpack.allowReachableSHA1InWant",
        "uploadpack.allowTipSHA1InWant",
        "uploadpack.allowAnySHA1InWant",
    ] {
        crate::support::git_in(&bare(repository), &["config", option, "false"], b"");
    }
}

#[tokio::test]
async fn a_commit_is_found_also_where_the_server_gives_out_none_by_id() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let first = git(&repository, &["rev-parse", "HEAD"], b"");
    repository.commit("second", &[("new", "2")]);
    let last = repository.commit("third", &[("new", "3")]);
    give_out_nothing_by_id(&repository);
    let mut place = Place::new();
    assert_eq!(
        place
            .fetch_commit(&repository.url, &first)
            .await
            .unwrap()
            .commit
            .as_str(),
        first
    );
    assert!(
        place
            .lines
            .texts()
            .iter()
            .any(|line| line.contains("looking back from the default branch"))
    );
    // The tip needs no leave.
    let mut place = Place::new();
    assert_eq!(
        place
            .fetch_commit(&repository.url, &last)
            .await
            .unwrap()
            .commit
            .as_str(),
        last
    );
    assert!(
        !place
            .lines
            .texts()
            .iter()
            .any(|line| line.contains("looking back"))
    );

    let missing = "1".repeat(40);
    let error = Place::new()
        .fetch_commit(&repository.url, &missing)
        .await
        .unwrap_err();
    assert!(detail(&error).contains(&missing), "{error}");
}

#[tokio::test]
async fn a_commit_as_the_ref_is_looked_for_behind_every_branch_and_tag() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let on_main = git(&repository, &["rev-parse", "HEAD"], b"");
    let push = |what: &str| {
        let bare = bare(&repository);
        let arguments = ["push", "--quiet", bare.to_str().unwrap(), what];
        git(&repository, &arguments, b"");
    };
    let commit = |message: &str| {
        let arguments = ["commit", "--quiet", "--allow-empty", "-m", message];
        git(&repository, &arguments, b"");
        git(&repository, &["rev-parse", "HEAD"], b"")
    };
    let behind_branch = commit("behind a branch");
    commit("the branch");
    push("HEAD:refs/heads/feature/x");
    let behind_tag = commit("behind a tag");
    commit("the tag");
    git(&repository, &["tag", "-a", "v1", "-m", "one"], b"");
    push("v1");
    let nowhere = commit("pushed nowhere");
    git(&repository, &["reset", "--quiet", "--hard", &on_main], b"");
    let tip = repository.commit("second", &[("new", "2")]);
    give_out_nothing_by_id(&repository);

    let url = &repository.url;
    for wanted in [&on_main, &behind_branch, &behind_tag, &tip] {
        // What the mirror holds from before must make no difference.
        let place = Place::new();
        let fetched = place.fetch_ref(url, wanted).await.unwrap();
        assert_eq!(fetched.commit.as_str(), wanted);
        // A move asks for the commit that was deployed, and names the ref that is the same.
        let place = Place::new();
        place.fetch(url).await.unwrap();
        for git_ref in [wanted, "no-longer-there"] {
            let mut order = place.order(url);
            order.git_ref = Some(GitRef::parse(git_ref).unwrap());
            order.commit = Some(CommitId::parse(wanted).unwrap());
            assert_eq!(place.run(order).await.unwrap().commit.as_str(), wanted);
        }
    }
    let error = Place::new().fetch_ref(url, &nowhere).await.unwrap_err();
    assert_eq!(
        detail(&error),
        format!(
            "no branch or tag of the repository leads to commit {nowhere}: push it on a branch, or \
             name a branch or tag instead"
        )
    );
}

#[tokio::test]
async fn a_missing_ref_is_named_with_those_that_exist() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let error = place.fetch_ref(&repository.url, "mian").await.unwrap_err();
    assert_eq!(
        detail(&error),
        "the repository has no branch or tag `mian`; it has: main"
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_repository_says_so() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG]);
    git(
        &repository,
        &[
            "push",
            "--quiet",
            bare(&repository).to_str().unwrap(),
            "main:other",
        ],
        b"",
    );
    for name in ["main", "other"] {
        crate::support::git_in(
            &bare(&repository),
            &["update-ref", "-d", &format!("refs/heads/{name}")],
            b"",
        );
    }
    let error = Place::new().refused(&repository.url).await;
    assert!(
        detail(&error).contains("the repository is empty"),
        "{error}"
    );
}

#[tokio::test]
async fn the_second_fetch_receives_only_what_is_new() {
    let server = GitServer::start().await;
    let noise: String = (0..20_000u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let repository = server.repository("app", &[CONFIG, DOCKERFILE, ("noise", &noise)]);
    let place = Place::new();
    place.fetch(&repository.url).await.unwrap();
    let size = |place: &Place| -> u64 { walk(&place.mirror_dir()) };
    let first = size(&place);
    let commit = repository.commit("second", &[("small", "1")]);
    assert_eq!(
        place.fetch(&repository.url).await.unwrap().commit.as_str(),
        commit
    );
    let grown = size(&place) - first;
    assert!(
        first > 100_000 && grown < 10_000,
        "first {first}, then {grown} more"
    );
    // The third receives nothing, and a commit that is here needs no server.
    place.fetch(&repository.url).await.unwrap();
    assert_eq!(size(&place) - first, grown);
    drop(server);
    place.fetch_commit(&repository.url, &commit).await.unwrap();
}

#[tokio::test]
async fn a_mirror_of_what_a_server_forgot_is_fetched_afresh() {
    let server = GitServer::start().await;
    let noise: String = (0..20_000u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let repository = server.repository("app", &[CONFIG, DOCKERFILE, ("noise", &noise)]);
    let mut place = Place::new();
    place.fetch(&repository.url).await.unwrap();
    let first = walk(&place.mirror_dir());
    repository.commit("without it", &[("noise", "")]);
    place.limits.received_bytes = 40_000;
    place.fetch(&repository.url).await.unwrap();
    let second = walk(&place.mirror_dir());
    assert!(first > 100_000 && second < 40_000, "{first}, then {second}");
}

fn walk(path: &std::path::Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                entry.metadata().unwrap().len()
            }
        })
        .sum()
}

#[tokio::test]
async fn a_damaged_mirror_is_fetched_afresh() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let mut place = Place::new();
    place.fetch(&repository.url).await.unwrap();
    let mirror = place
        .leftovers()
        .into_iter()
        .find(|name| name.ends_with(".git"))
        .unwrap();
    let packs = place.mirror_dir().join(&mirror).join("objects/pack");
    for entry in std::fs::read_dir(&packs).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "pack")
        {
            let mut permissions = std::fs::metadata(&path).unwrap().permissions();
            #[expect(clippy::permissions_set_readonly_false, reason = "a file of this test")]
            permissions.set_readonly(false);
            std::fs::set_permissions(&path, permissions).unwrap();
            let length = std::fs::metadata(&path).unwrap().len() as usize;
            std::fs::write(&path, vec![0; length]).unwrap();
        }
    }
    place.fetch(&repository.url).await.unwrap();
    assert!(
        place
            .lines
            .texts()
            .iter()
            .any(|line| line.contains("afresh"))
    );

    // A mirror that is no repository at all.
    std::fs::remove_file(place.mirror_dir().join(&mirror).join("HEAD")).unwrap();
    place.fetch(&repository.url).await.unwrap();
}

#[tokio::test]
async fn fetches_of_one_repository_at_once_all_succeed() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let fetches = (0..5).map(|_| async {
        place
            .fetch(&repository.url)
            .await
            .map(|fetched| fetched.content_hash.clone())
    });
    let hashes = futures::future::join_all(fetches).await;
    assert!(
        hashes
            .windows(2)
            .all(|pair| pair[0].is_ok() && pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[tokio::test]
async fn files_of_this_machine_need_leave() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let url = format!("file://{}", bare(&repository).display());
    let mut place = Place::new();
    assert!(detail(&place.refused(&url).await).contains("not allowed"));
    place.policy.file_allowed = true;
    place.fetch(&url).await.unwrap();
    let error = place.refused("file:///nowhere/at/all").await;
    assert!(detail(&error).contains("/nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn a_mirror_can_be_removed_and_what_was_left_is_swept() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    place.fetch(&repository.url).await.unwrap();
    let url = place.order(&repository.url).url;
    for _ in 0..2 {
        node::git::mirror::remove(&place.mirror_dir(), &url)
            .await
            .unwrap();
    }
    assert_eq!(place.leftovers(), Vec::<String>::new());
    std::fs::create_dir_all(place.mirror_dir().join("home-x/.ssh")).unwrap();
    node::git::mirror::sweep(&place.mirror_dir()).unwrap();
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
