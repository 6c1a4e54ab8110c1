//! What the private services have in common: an account, a directory, a process that is ended by its id.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command that runs as `user` when we are root: most services refuse to be that.
pub(crate) fn as_user(user: &str, program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={user}"),
        &format!("--regid={user}"),
        "--init-groups",
        program,
    ]);
    command
}

/// A directory that `user` can use too; removed when it is dropped.
pub(crate) fn directory_of(user: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::Builder::new()
        .prefix("longshore-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a directory");
    give(directory.path(), user);
    directory
}

/// Gives a file or directory to `user`, when we may.
pub(crate) fn give(path: &Path, user: &str) {
    if is_root() {
        let owner = format!("{user}:{user}");
        run(Command::new("chown").args(["-R", &owner]).arg(path));
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .expect("/proc")
        .lines()
        .any(|line| line.starts_with("Uid:\t0\t"))
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends its output to a file, appended.
pub(crate) fn logging(command: &mut Command, log: &Path) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file);
}

/// A process that ends with whoever holds this.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process; one that is gone is fine.
pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "kill runs");
}

/// Waits until a process that is not our child is gone, also as a zombie of its parent.
pub(crate) fn until_gone(pid: u32) {
    let begun = Instant::now();
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or("").trim_start();
        !(state.is_empty() || state.starts_with('Z') || state.starts_with('X'))
    };
    while runs() {
        assert!(begun.elapsed() < crate::PATIENCE, "process {pid} ends");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// kill -9 of a child, and waits for it.
pub(crate) fn kill(child: &mut Child) {
    // One that has ended by itself cannot be killed, and has only to be waited for.
    let _ = child.kill();
    let _ = child.wait();
}
