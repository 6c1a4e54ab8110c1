//! What the orchestrator's watcher asks a server, and how it is answered.

use crate::support::{CONFIG, Place, bare, child, git};
use shared::git::{FetchPolicy, LS_REMOTE_COMMAND, RefAnswer, RefQuestion};
use shared::guard::GuardPolicy;
use shared::source::{GitRef, GitUrl};
use std::process::Stdio;
use testkit::git_server::GitServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

fn question(url: &str, git_ref: Option<&str>) -> RefQuestion {
    RefQuestion {
        url: GitUrl::parse(url).unwrap(),
        git_ref: git_ref.map(|git_ref| GitRef::parse(git_ref).unwrap()),
        policy: Place::new().policy,
        received_bytes: 1 << 20,
        seconds: 10,
    }
}

fn start(home: &std::path::Path) -> Child {
    Command::new(child().program)
        .arg(LS_REMOTE_COMMAND)
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn answer(question: &RefQuestion) -> RefAnswer {
    let home = tempfile::tempdir().unwrap();
    let mut child = start(home.path());
    let mut line = serde_json::to_vec(question).unwrap();
    line.push(b'\n');
    // Kept open: the child ends with it.
    let mut input = child.stdin.take().unwrap();
    input.write_all(&line).await.unwrap();
    let mut said = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut said)
        .await
        .unwrap();
    assert!(child.wait().await.unwrap().success());
    serde_json::from_slice(&said)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said)))
}

async fn commit(url: &str, git_ref: Option<&str>) -> String {
    match answer(&question(url, git_ref)).await {
        RefAnswer::Found { commit } => commit.to_string(),
        RefAnswer::Failed { detail } => panic!("{detail}"),
    }
}

async fn refusal(question: &RefQuestion) -> String {
    match answer(question).await {
        RefAnswer::Found { commit } => panic!("found {commit}"),
        RefAnswer::Failed { detail } => detail,
    }
}

#[tokio::test]
async fn a_ref_stands_for_the_commit_that_git_would_take() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG]);
    let first = git(&repository, &["rev-parse", "HEAD"], b"");
    git(&repository, &["tag", "-a", "v1", "-m", "one"], b"");
    git(
        &repository,
        &[
            "push",
            "--quiet",
            bare(&repository).to_str().unwrap(),
            "v1",
            "HEAD:refs/heads/old",
        ],
        b"",
    );
    let second = repository.commit("second", &[("new", "2")]);
    let url = &repository.url;
    for (git_ref, wanted) in [
        (None, &second),
        (Some("HEAD"), &second),
        (Some("main"), &second),
        (Some("refs/heads/main"), &second),
        (Some("old"), &first),
        // An annotated tag has an id of its own; what counts is its commit.
        (Some("v1"), &first),
        (Some("refs/tags/v1"), &first),
    ] {
        assert_eq!(&commit(url, git_ref).await, wanted, "{git_ref:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_words() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG]);
    let detail = refusal(&question(&repository.url, Some("mian"))).await;
    assert_eq!(
        detail,
        "the repository has no branch or tag `mian`; it has: main"
    );
    let detail = refusal(&question(&repository.url.replace("app", "other"), None)).await;
    assert!(detail.contains("no such repository"), "{detail}");
    let detail = refusal(&question("https://nowhere.invalid/a.git", None)).await;
    assert!(
        detail.contains("`nowhere.invalid` cannot be found"),
        "{detail}"
    );
}

#[tokio::test]
async fn the_guard_stands_in_front() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG]);
    let mut guarded = question(&repository.url, None);
    guarded.policy.guard = GuardPolicy::default();
    let detail = refusal(&guarded).await;
    assert!(detail.contains("not allowed here"), "{detail}");

    let local = format!("file://{}", bare(&repository).display());
    let detail = refusal(&question(&local, None)).await;
    assert!(detail.contains("not allowed"), "{detail}");
    let mut allowed = question(&local, Some("main"));
    allowed.policy = FetchPolicy {
        file_allowed: true,
        ..allowed.policy
    };
    assert!(matches!(answer(&allowed).await, RefAnswer::Found { .. }));
}

#[tokio::test]
async fn a_list_of_refs_without_end_is_cut() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG]);
    let mut small = question(&repository.url, None);
    small.received_bytes = 100;
    let detail = refusal(&small).await;
    assert!(detail.contains("more than 100 bytes"), "{detail}");
}

#[tokio::test]
async fn the_child_ends_with_its_input() {
    // A server that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut child = start(home.path());
    let asked = question(
        &format!("http://{}/a.git", silent.local_addr().unwrap()),
        None,
    );
    let mut line = serde_json::to_vec(&asked).unwrap();
    line.push(b'\n');
    let mut input = child.stdin.take().unwrap();
    input.write_all(&line).await.unwrap();
    let _connection = silent.accept().await.unwrap();
    drop(input);
    child.wait().await.unwrap();
}
