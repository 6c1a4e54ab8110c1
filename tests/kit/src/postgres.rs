//! A PostgreSQL of one test's own, which may be killed.

use crate::daemon::{as_user, directory_of, give, kill, logging, run, signal};
use crate::{PATIENCE, steady_port};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const USER: &str = "postgres";

/// A server with its own directory and port. Killed when dropped.
pub struct Postgres {
    directory: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes and starts one. It keeps what it has confirmed when its process is killed, not when the
    /// machine is: it does not sync.
    pub async fn start() -> Self {
        let directory = directory_of(USER);
        let password = directory.path().join("password");
        std::fs::write(&password, "longshore").expect("a file");
        give(&password, USER);
        run(as_user(USER, &program("initdb"))
            .arg("-D")
            .arg(directory.path().join("data"))
            .args(["-U", "longshore", "-A", "scram-sha-256", "--no-sync"])
            .args(["-E", "UTF8", "--locale=C.UTF-8", "--pwfile"])
            .arg(&password));
        let mut server = Self {
            directory,
            port: steady_port(),
            server: None,
        };
        server.launch().await;
        server
    }

    /// Starts it (again) and waits until it answers.
    pub async fn launch(&mut self) {
        let begun = Instant::now();
        self.server = Some(self.spawn());
        while !self.answers() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL answers");
            // After a kill it refuses to start as long as a process of the one before lives.
            if let Some(Ok(Some(_))) = self.server.as_mut().map(Child::try_wait) {
                self.server = Some(self.spawn());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self) -> Child {
        let mut command = as_user(USER, &program("postgres"));
        command
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args(["-p", &self.port.to_string()]);
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "fsync=off",
            "full_page_writes=off",
        ];
        for setting in settings {
            command.args(["-c", setting]);
        }
        logging(&mut command, &self.directory.path().join("server.log"));
        command.spawn().expect("postgres starts")
    }

    fn answers(&self) -> bool {
        Command::new(program("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()
            .expect("pg_isready runs")
            .success()
    }

    /// With user and password.
    pub fn url(&self) -> String {
        format!(
            "postgres://longshore:longshore@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// kill -9 of the server.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill(&mut server);
        }
    }

    /// Its fast shutdown: sessions are ended, what was under way is rolled back.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id(), "INT");
            let _ = server.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian keeps each release in a directory of its own; the newest is taken.
fn program(name: &str) -> String {
    let mut releases: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: scripts/install.sh test")
        .map(|entry| entry.expect("an entry").path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    releases.sort();
    let newest = releases.pop().expect("a release of PostgreSQL");
    newest.to_str().expect("UTF-8").to_owned()
}
