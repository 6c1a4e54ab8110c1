//! What the tests of the fetch share.

use node::git::{
    BuiltinImages, ChildProgram, FetchError, FetchLimits, FetchOrder, FetchPolicy, Fetched,
    SshSettings, fetch,
};
use node::log_sink::{CollectedLines, LogSink};
use shared::guard::GuardPolicy;
use shared::source::{CommitId, GitRef, GitUrl, RepoPath};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use testkit::git_server::Repository;
use tokio_util::sync::CancellationToken;

/// The smallest configuration, and what it needs.
pub(crate) const CONFIG: (&str, &str) = (
    "Config.toml",
    "[config]\ndockerfile = \"Dockerfile\"\nport = 8000\n",
);
pub(crate) const DOCKERFILE: (&str, &str) = ("Dockerfile", "FROM busybox\nCOPY . /srv\n");

/// A node's state, as far as fetching needs it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: LogSink,
    pub(crate) lines: CollectedLines,
    pub(crate) cancel: CancellationToken,
    pub(crate) limits: FetchLimits,
    pub(crate) policy: FetchPolicy,
}

impl Place {
    pub(crate) fn new() -> Self {
        let (log, lines) = LogSink::collecting();
        Self {
            dir: tempfile::tempdir().unwrap(),
            log,
            lines,
            cancel: CancellationToken::new(),
            limits: FetchLimits::default(),
            policy: FetchPolicy {
                file_allowed: false,
                guard: GuardPolicy {
                    allow_loopback: true,
                    ..GuardPolicy::default()
                },
                ssh: SshSettings {
                    known_hosts: Vec::new(),
                    key: None,
                    agent: None,
                },
            },
        }
    }

    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.dir.path().join("mirrors")
    }

    pub(crate) fn order(&self, url: &str) -> FetchOrder {
        FetchOrder {
            url: GitUrl::parse(url).unwrap(),
            git_ref: None,
            commit: None,
            subdir: None,
            mirror_dir: self.mirror_dir(),
            limits: self.limits,
            policy: self.policy.clone(),
            builtin: BuiltinImages::default(),
            child: child(),
        }
    }

    pub(crate) async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        self.run(self.order(url)).await
    }

    pub(crate) async fn fetch_ref(&self, url: &str, git_ref: &str) -> Result<Fetched, FetchError> {
        self.run(FetchOrder {
            git_ref: Some(GitRef::parse(git_ref).unwrap()),
            ..self.order(url)
        })
        .await
    }

    pub(crate) async fn fetch_commit(
        &self,
        url: &str,
        commit: &str,
    ) -> Result<Fetched, FetchError> {
        self.run(FetchOrder {
            commit: Some(CommitId::parse(commit).unwrap()),
            ..self.order(url)
        })
        .await
    }

    pub(crate) async fn fetch_subdir(
        &self,
        url: &str,
        subdir: &str,
    ) -> Result<Fetched, FetchError> {
        self.run(FetchOrder {
            subdir: Some(RepoPath::parse(subdir).unwrap()),
            ..self.order(url)
        })
        .await
    }

    pub(crate) async fn run(&self, order: FetchOrder) -> Result<Fetched, FetchError> {
        fetch(order, &OnceLock::new(), &self.log, &self.cancel).await
    }

    /// The error of a fetch, after which nothing may be left on the disk.
    pub(crate) async fn refused(&self, url: &str) -> FetchError {
        let error = self.fetch(url).await.expect_err("the fetch should fail");
        assert!(
            !error
                .to_string()
                .chars()
                .any(|c| c.is_control() && c != '\n'),
            "{error}"
        );
        error
    }

    /// What is in the directory of mirrors.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.mirror_dir()) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Fetches and writes the context; gives the entries of the tar.
    pub(crate) async fn context(&self, fetched: Fetched) -> (String, Vec<Entry>) {
        let to = self.dir.path().join("context.tar");
        let context = fetched.write_context(&to).await.unwrap();
        let entries = entries(&to);
        assert_eq!(context.files, entries.len() as u64);
        assert_eq!(context.bytes, std::fs::metadata(&to).unwrap().len());
        (context.dockerfile, entries)
    }
}

pub(crate) fn child() -> ChildProgram {
    ChildProgram {
        program: PathBuf::from(env!("CARGO_BIN_EXE_internal-fetch")),
        args: Vec::new(),
    }
}

/// One entry of a tar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
    pub(crate) link: Option<String>,
}

pub(crate) fn entries(tar: &Path) -> Vec<Entry> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            Entry {
                path: entry.path().unwrap().to_str().unwrap().to_owned(),
                kind: entry.header().entry_type(),
                mode: entry.header().mode().unwrap(),
                content,
                link: entry
                    .link_name()
                    .unwrap()
                    .map(|link| link.to_str().unwrap().to_owned()),
            }
        })
        .collect()
}

pub(crate) fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

/// Runs git in a repository's work tree.
pub(crate) fn git(repository: &Repository, arguments: &[&str], input: &[u8]) -> String {
    git_in(repository.work_tree(), arguments, input)
}

pub(crate) fn git_in(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.invalid",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The bare repository that is served.
pub(crate) fn bare(repository: &Repository) -> PathBuf {
    repository.work_tree().with_extension("git")
}

/// Makes `tree` the whole of a new commit on main and pushes it, whatever Git thinks of it.
pub(crate) fn push_tree(repository: &Repository, tree: &str) -> String {
    let commit = git(repository, &["commit-tree", tree, "-m", "raw"], b"");
    git(
        repository,
        &[
            "push",
            "--quiet",
            "--force",
            bare(repository).to_str().unwrap(),
            &format!("{commit}:refs/heads/main"),
        ],
        b"",
    );
    commit
}

/// A tree object of lines as `git mktree` takes them.
pub(crate) fn tree(repository: &Repository, lines: &str) -> String {
    git(repository, &["mktree", "--missing"], lines.as_bytes())
}

pub(crate) fn blob(repository: &Repository, content: &[u8]) -> String {
    git(repository, &["hash-object", "-w", "--stdin"], content)
}
