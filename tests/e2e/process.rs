//! The real binary as a process: started, watched, killed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use testkit::api::Api;
use testkit::{PATIENCE, TOKEN, free_port};

/// The binary under test.
pub(crate) const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

/// A running role. Killed with SIGKILL when dropped, as a crash would.
pub(crate) struct Role {
    child: tokio::process::Child,
    log: PathBuf,
}

impl Role {
    /// Starts the binary with these arguments; its log goes to a file that a failing test prints.
    pub(crate) fn start<S: AsRef<OsStr>>(log: &Path, arguments: &[S]) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let child = tokio::process::Command::new(LONGSHORE)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", log.parent().expect("a parent"))
            .env("LONGSHORE_ADMIN_TOKEN", TOKEN)
            .env("LONGSHORE_LOG", "info")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it stops")
            .expect("a status")
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a status")
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} ---\n{}",
                self.log.display(),
                tail(&self.log(), 120)
            );
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
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
        self.role = Some(Role::start(
            &self.data.path().join("standalone.log"),
            &arguments,
        ));
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

/// Ends every process whose command line names this test's own directory: the port forwarders.
pub(crate) fn kill_children_of(directory: &Path) {
    let needle = directory.to_str().expect("UTF-8");
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(needle) {
            let _ = std::process::Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
    }
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
