//! One look at one server: which commit does a ref stand for?
//!
//! Asked of a child process of this binary, which alone knows Git, has an empty environment and
//! limits of its own, and is killed when it takes too long.

use async_trait::async_trait;
use shared::git::{
    FetchPolicy, LS_REMOTE_COMMAND, RefAnswer, RefQuestion, certificate_environment,
};
use shared::source::{CommitId, GitRef, GitScheme, GitUrl};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How long a look may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How many bytes a server may send: a list of some hundred thousand refs.
const RECEIVED_BYTES: u64 = 32 << 20;
/// The longest answer of the child that is read, in bytes.
const ANSWER_BYTES: u64 = 64 << 10;

/// What is looked at. Deployments that share it share the look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The repository.
    pub(crate) url: GitUrl,
    /// The branch, tag or full ref; the default branch when absent.
    pub(crate) git_ref: Option<GitRef>,
}

/// Why a look did not find a commit. The text is what the deployment shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookError {
    /// Host, repository, ref or access: the server's words are in it.
    #[error("{detail}")]
    Refused {
        /// What happened.
        detail: String,
    },
    /// It took too long and was killed.
    #[error("the server did not answer within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// This machine could not do it: its memory, its processes.
    #[error("the repository could not be looked at: {detail}")]
    Machine {
        /// What happened.
        detail: String,
    },
}

impl LookError {
    /// As metrics name it.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Machine { .. } => "machine",
        }
    }
}

impl From<std::io::Error> for LookError {
    fn from(error: std::io::Error) -> Self {
        Self::Machine {
            detail: error.to_string(),
        }
    }
}

/// Looks at servers.
#[async_trait]
pub(crate) trait Look: Send + Sync {
    /// The commit that the target's ref stands for now.
    async fn look(&self, target: &Target) -> Result<CommitId, LookError>;
}

/// Looks by a child process each.
#[derive(Clone, Debug)]
pub(crate) struct ChildLook {
    program: PathBuf,
    args: Vec<OsString>,
    policy: FetchPolicy,
    limit: Duration,
}

#[async_trait]
impl Look for ChildLook {
    async fn look(&self, target: &Target) -> Result<CommitId, LookError> {
        // The guard stands in the child; what needs no connection is refused without one.
        let refused = |error: shared::source::GitUrlError| LookError::Refused {
            detail: error.to_string(),
        };
        target
            .url
            .check_scheme(self.policy.file_allowed)
            .map_err(refused)?;
        match tokio::time::timeout(self.limit, self.ask(target)).await {
            Ok(Ok(RefAnswer::Found { commit })) => Ok(commit),
            Ok(Ok(RefAnswer::Failed { detail })) => Err(LookError::Refused { detail }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LookError::Timeout {
                seconds: self.limit.as_secs(),
            }),
        }
    }
}

impl ChildLook {
    /// Asks children of this program, which may go where `policy` lets them.
    pub(crate) fn new(program: PathBuf, policy: FetchPolicy) -> Self {
        Self {
            program,
            args: vec![LS_REMOTE_COMMAND.into()],
            policy,
            limit: LIMIT,
        }
    }

    /// Dropping this kills the child.
    async fn ask(&self, target: &Target) -> Result<RefAnswer, LookError> {
        let question = RefQuestion {
            url: target.url.clone(),
            git_ref: target.git_ref.clone(),
            policy: self.policy.clone(),
            received_bytes: RECEIVED_BYTES,
            seconds: self.limit.as_secs(),
        };
        let mut line = serde_json::to_vec(&question).map_err(std::io::Error::from)?;
        line.push(b'\n');
        // The child's home: empty but for what it keeps there itself. Goes when the child goes.
        let home = tempfile::Builder::new()
            .prefix("longshore-look-")
            .tempdir()?;
        let mut child = self.command(home.path(), question.url.scheme()).spawn()?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(LookError::Machine {
                detail: "the child process has no pipes".to_owned(),
            });
        };
        // A child that ended before it listened says nothing: that is seen below.
        let _ = input.write_all(&line).await;
        // The input stays open: its end is how the child learns that nobody waits any more.
        let mut answer = Vec::new();
        output.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        drop(input);
        read_answer(&answer, child).await
    }

    fn command(&self, home: &Path, scheme: GitScheme) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .arg0("longshore-internal-ls-remote")
            .env_clear()
            .env("HOME", home)
            .env("LANG", "C.UTF-8")
            .envs(certificate_environment(scheme == GitScheme::Https))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is the parent's to handle.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(agent) = &self.policy.ssh.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        command
    }
}

/// What a child said, after it is gone.
async fn read_answer(answer: &[u8], mut child: Child) -> Result<RefAnswer, LookError> {
    if answer.is_empty() {
        let status = child.wait().await?;
        return Err(LookError::Machine {
            detail: format!("the child process ended without an answer ({status})"),
        });
    }
    // It has nothing more to say, or said too much.
    child.kill().await?;
    serde_json::from_slice(answer).map_err(|error| LookError::Machine {
        detail: format!("the child process said something else than an answer: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target {
            url: GitUrl::parse(url).unwrap(),
            git_ref: None,
        }
    }

    /// Looks whose child is a few words of shell.
    async fn look(script: &str, limit: Duration) -> Result<String, LookError> {
        let args = vec!["-c".into(), script.into()];
        let look = ChildLook {
            program: "/bin/sh".into(),
            args,
            policy: FetchPolicy::default(),
            limit,
        };
        look.look(&target("https://git.example/a.git"))
            .await
            .map(|commit| commit.to_string())
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let commit = "a".repeat(40);
        let script = format!(r#"read question; echo '{{"say":"found","commit":"{commit}"}}'"#);
        assert_eq!(look(&script, LIMIT).await, Ok(commit));
        let script = r#"read question; echo '{"say":"failed","detail":"no such ref"}'"#;
        assert_eq!(
            look(script, LIMIT).await,
            Err(LookError::Refused {
                detail: "no such ref".to_owned()
            })
        );
    }

    #[tokio::test]
    async fn a_child_that_hangs_is_killed() {
        let place = tempfile::tempdir().unwrap();
        let pid = place.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 600", pid.display());
        let limit = Duration::from_secs(1);
        assert_eq!(
            look(&script, limit).await,
            Err(LookError::Timeout { seconds: 1 })
        );
        let pid = std::fs::read_to_string(pid).unwrap();
        let process = PathBuf::from(format!("/proc/{}/exe", pid.trim()));
        // Killed at once, reaped by the runtime: a dead process has no program.
        while std::fs::read_link(&process).is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nonsense_silence_and_verbosity_are_errors() {
        for script in [
            "read question; echo nonsense",
            "read question; exit 3",
            "exit 0",
            "cat",
            r#"read question; echo '{"say":"found","commit":"--x"}'"#,
            "yes",
        ] {
            let seen = look(script, Duration::from_secs(2)).await;
            assert!(
                matches!(
                    seen,
                    Err(LookError::Machine { .. } | LookError::Timeout { .. })
                ),
                "{script}: {seen:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_child_sees_nothing_of_our_environment() {
        let script = r#"read question; [ -z "$CARGO_MANIFEST_DIR$CARGO$USER" ] && echo '{"say":"failed","detail":"clean"}'"#;
        assert_eq!(
            look(script, LIMIT).await,
            Err(LookError::Refused {
                detail: "clean".to_owned()
            })
        );
    }

    #[tokio::test]
    async fn a_file_is_refused_without_a_child() {
        let look = ChildLook::new("/nonexistent".into(), FetchPolicy::default());
        let seen = look.look(&target("file:///srv/app.git")).await;
        assert!(matches!(seen, Err(LookError::Refused { .. })), "{seen:?}");
    }
}
