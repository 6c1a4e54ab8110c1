//! The real binary as a process: started, watched, killed.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use testkit::api::Api;
use testkit::process::{Role, kill_children_of};
use testkit::{PATIENCE, TOKEN, free_port};

/// The binary under test.
pub(crate) const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

/// Starts the binary with these arguments; its log goes to a file that a failing test prints.
pub(crate) fn start<S: AsRef<OsStr>>(log: &Path, arguments: &[S]) -> Role {
    Role::start(LONGSHORE, log, arguments)
}

/// A standalone server with a data directory of its own, and the deployments of it, which are
/// destroyed when the test ends.
pub(crate) struct Standalone {
    pub(crate) api: Api,
    pub(crate) data: tempfile::TempDir,
    role: Option<Role>,
    listen: String,
    extra: Vec<String>,
}

impl Standalone {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more flags.
    pub(crate) async fn start_with(extra: &[&str]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut standalone = Self {
            api: Api::new(&format!("http://{listen}")),
            data: tempfile::tempdir().expect("a directory"),
            role: None,
            listen,
            extra: extra.iter().map(|&argument| argument.to_owned()).collect(),
        };
        standalone.launch().await;
        standalone
    }

    /// Starts the process (again) and waits until the API is ready.
    pub(crate) async fn launch(&mut self) {
        let data = self.data.path().join("data");
        let mut arguments = vec![
            "standalone".to_owned(),
            "--data-dir".to_owned(),
            data.to_str().expect("UTF-8").to_owned(),
            "--listen".to_owned(),
            self.listen.clone(),
        ];
        arguments.extend(self.extra.iter().cloned());
        self.role = Some(start(&self.data.path().join("standalone.log"), &arguments));
        self.api.until_ready().await;
    }

    pub(crate) async fn kill(&mut self) {
        self.role.take().expect("running").kill().await;
    }

    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        self.role.take().expect("running").terminate().await
    }

    /// The state of the node inside.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Removes what the test deployed, and the processes that outlive the server on purpose.
    pub(crate) async fn clean_up(mut self) {
        if self.role.is_none() {
            self.launch().await;
        }
        self.api.destroy_all().await;
        self.terminate().await;
        kill_children_of(self.data.path());
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // After a failed test: nothing may be left that the next one could trip over.
        self.role.take();
        kill_children_of(self.data.path());
    }
}

/// A text inside an answer of the API.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

/// What a client command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a client command against a server.
pub(crate) async fn longshore(url: &str, arguments: &[&str]) -> Output {
    longshore_as(url, TOKEN, arguments).await
}

/// Runs a client command with another token.
pub(crate) async fn longshore_as(url: &str, token: &str, arguments: &[&str]) -> Output {
    let output = tokio::process::Command::new(LONGSHORE)
        .args(arguments)
        .env("LONGSHORE_URL", url)
        .env("LONGSHORE_TOKEN", token)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE * 2, output)
        .await
        .expect("the command ends")
        .expect("it runs");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
