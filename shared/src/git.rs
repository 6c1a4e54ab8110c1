//! How Git servers are reached, and what the orchestrator's watcher asks a child process about one.
//!
//! The child is the one of the node's fetch, which alone knows Git; the watcher starts it and reads
//! its answer. Question and answer are one JSON document each, on standard input and output. Both
//! ends are the same binary, so there are no versions.

use crate::guard::GuardPolicy;
use crate::source::{CommitId, GitRef, GitUrl};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

/// The hidden subcommand that answers one [`RefQuestion`] with one [`RefAnswer`].
pub const LS_REMOTE_COMMAND: &str = "internal-ls-remote";

/// Where OpenSSL looks for the certificate authorities that it trusts.
const CA_FILE: &str = "SSL_CERT_FILE";
const CA_DIR: &str = "SSL_CERT_DIR";

/// Says to a child that it was started without certificate authorities.
const NO_CA: &str = "LONGSHORE_NO_CERTIFICATES";

/// What a child finds the certificate authorities by, as pairs of its environment.
///
/// OpenSSL reads and parses every authority of the machine as soon as it is initialised, which takes
/// longer than a small fetch. A child that is not about to speak TLS is given none (`needed` false),
/// and asks [`has_certificates`] before it does.
#[must_use]
pub fn certificate_environment(needed: bool) -> Vec<(&'static str, OsString)> {
    if !needed {
        return vec![(CA_FILE, "/dev/null".into()), (NO_CA, "1".into())];
    }
    let inherited = [CA_FILE, CA_DIR].map(|name| Some((name, std::env::var_os(name)?)));
    inherited.into_iter().flatten().collect()
}

/// Whether this process, a child, was started with certificate authorities.
#[must_use]
pub fn has_certificates() -> bool {
    std::env::var_os(NO_CA).is_none()
}

/// Where a fetch or a look may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPolicy {
    /// `file://` is allowed (`--allow-git-scheme file`).
    pub file_allowed: bool,
    /// Which addresses may be connected to.
    pub guard: GuardPolicy,
    /// How SSH servers are known and how this machine proves itself to them.
    pub ssh: SshSettings,
}

/// How SSH servers are known and how this machine proves itself to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshSettings {
    /// Files of known host keys, in OpenSSH's format; those that do not exist are left out.
    pub known_hosts: Vec<PathBuf>,
    /// The private key (`--ssh-key`); the ssh-agent is asked when absent.
    pub key: Option<PathBuf>,
    /// The socket of the ssh-agent.
    pub agent: Option<PathBuf>,
}

impl Default for SshSettings {
    /// The system's and this user's known hosts, and the ssh-agent of the environment.
    fn default() -> Self {
        let mut known_hosts = vec![PathBuf::from("/etc/ssh/ssh_known_hosts")];
        known_hosts.extend(std::env::home_dir().map(|home| home.join(".ssh/known_hosts")));
        Self {
            known_hosts,
            key: None,
            agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        }
    }
}

/// Which commit a ref stands for at its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefQuestion {
    /// The repository.
    pub url: GitUrl,
    /// The branch, tag or full ref; the default branch when absent.
    pub git_ref: Option<GitRef>,
    /// Where the look may go.
    pub policy: FetchPolicy,
    /// How many bytes the server may send: its list of refs is all that is read.
    pub received_bytes: u64,
    /// How long it may take, in seconds. Whoever asks kills the child then; the child limits its
    /// processor time by it.
    pub seconds: u64,
}

/// What the child says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum RefAnswer {
    /// The ref is there.
    Found {
        /// The commit that it stands for; that of the commit inside, for an annotated tag.
        commit: CommitId,
    },
    /// It is not known: host, repository, ref, access or a limit.
    Failed {
        /// What happened, in words for the user, safe to show.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer_read_back() {
        let question = RefQuestion {
            url: GitUrl::parse("https://git.example/a.git").unwrap(),
            git_ref: Some(GitRef::parse("main").unwrap()),
            policy: FetchPolicy::default(),
            received_bytes: 1,
            seconds: 1,
        };
        let json = serde_json::to_string(&question).unwrap();
        assert_eq!(
            serde_json::from_str::<RefQuestion>(&json).unwrap(),
            question
        );

        let commit = CommitId::parse(&"a".repeat(40)).unwrap();
        for answer in [
            RefAnswer::Found { commit },
            RefAnswer::Failed {
                detail: "no".to_owned(),
            },
        ] {
            let json = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<RefAnswer>(&json).unwrap(), answer);
        }
    }

    #[test]
    fn a_child_without_tls_is_given_no_certificates() {
        let without = certificate_environment(false);
        assert!(without.contains(&(CA_FILE, "/dev/null".into())));
        assert!(without.iter().any(|(name, _)| *name == NO_CA));
        let with = certificate_environment(true);
        assert!(
            with.iter()
                .all(|(name, _)| [CA_FILE, CA_DIR].contains(name))
        );
    }

    #[test]
    fn an_answer_that_names_no_commit_is_refused() {
        assert!(
            serde_json::from_str::<RefAnswer>(r#"{"say":"found","commit":"--upload-pack=x"}"#)
                .is_err()
        );
    }
}
