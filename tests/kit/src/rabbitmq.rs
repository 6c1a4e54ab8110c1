//! A RabbitMQ of one test's own, which may be killed and wiped.

use crate::daemon::{as_user, directory_of, give, kill, logging, signal, until_gone};
use crate::{eventually, steady_port};
use std::path::{Path, PathBuf};
use std::process::Child;

const USER: &str = "rabbitmq";
const VHOST: &str = "faults";

/// A broker with its own directory, ports and port mapper. Killed when dropped.
pub struct RabbitMq {
    directory: tempfile::TempDir,
    port: u16,
    management: u16,
    distribution: u16,
    mapper_port: u16,
    // Ours, so that the broker does not leave one of its own behind.
    mapper: Child,
    broker: Option<Child>,
}

impl RabbitMq {
    /// Makes and starts one; takes some seconds.
    pub async fn start() -> Self {
        let directory = directory_of(USER);
        let mapper_port = steady_port();
        let mut command = as_user(USER, "epmd");
        command.args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()]);
        logging(&mut command, &directory.path().join("epmd.log"));
        let mut broker = Self {
            port: steady_port(),
            management: steady_port(),
            distribution: steady_port(),
            mapper_port,
            mapper: command.spawn().expect("epmd starts"),
            broker: None,
            directory,
        };
        broker.configure();
        broker.launch().await;
        broker
    }

    fn configure(&self) {
        let Self {
            port, management, ..
        } = self;
        let path = self.directory.path();
        let plugins = "[rabbitmq_management].\n";
        std::fs::write(path.join("enabled_plugins"), plugins).expect("a file");
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             default_vhost = {VHOST}\ndefault_user = longshore\ndefault_pass = longshore\nloopback_users = none\n"
        );
        std::fs::write(path.join("rabbitmq.conf"), settings).expect("a file");
        give(path, USER);
    }

    /// Starts it (again) and waits until its virtual host answers.
    pub async fn launch(&mut self) {
        let path = self.directory.path();
        let mut command = as_user(USER, "/usr/lib/rabbitmq/bin/rabbitmq-server");
        let place = |name: &str| path.join(name);
        command
            .current_dir(path)
            .env("HOME", path)
            .env(
                "RABBITMQ_NODENAME",
                format!("faults{}@localhost", self.port),
            )
            .env("RABBITMQ_MNESIA_BASE", place("mnesia"))
            .env("RABBITMQ_LOG_BASE", place("log"))
            .env("RABBITMQ_CONFIG_FILE", place("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", place("none"))
            .env("RABBITMQ_PID_FILE", place("pid"))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2");
        logging(&mut command, &place("stdout"));
        self.broker = Some(command.spawn().expect("RabbitMQ starts"));
        let health = format!("{}/api/health/checks/virtual-hosts", self.management_url());
        eventually("RabbitMQ answers", || async {
            crate::body_of(&health).await
        })
        .await;
    }

    /// Waits until the broker has its register of these quorum queues on the disk. It writes that up
    /// to three seconds late; killed before, it forgets which replica a queue has, and the queue takes
    /// nothing any more (rabbitmq-server#15725).
    pub async fn until_registered(&self, queues: &[&str]) {
        eventually("the queues are registered", || async {
            let register = std::fs::read(self.register()?).ok()?;
            let register = String::from_utf8_lossy(&register);
            queues
                .iter()
                .all(|queue| register.contains(&format!("{VHOST}_{queue}")))
                .then_some(())
        })
        .await;
    }

    fn register(&self) -> Option<PathBuf> {
        let nodes = std::fs::read_dir(self.directory.path().join("mnesia")).ok()?;
        let mut quorum = nodes.flatten().map(|entry| entry.path().join("quorum"));
        let quorum = quorum.find(|path| path.is_dir())?;
        let mut folders = std::fs::read_dir(quorum).ok()?.flatten();
        Some(folders.next()?.path().join("names.dets"))
    }

    /// With user, password and virtual host.
    pub fn url(&self) -> String {
        format!("amqp://longshore:longshore@127.0.0.1:{}/{VHOST}", self.port)
    }

    /// Where its management answers.
    pub fn management_url(&self) -> String {
        format!("http://longshore:longshore@127.0.0.1:{}", self.management)
    }

    /// kill -9 of the broker; returns once its ports are free.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Forgets everything that the stopped broker had: queues, messages, accounts.
    pub fn wipe(&mut self) {
        assert!(self.broker.is_none(), "it is stopped");
        std::fs::remove_dir_all(self.directory.path().join("mnesia")).expect("its data");
    }

    fn end(&mut self, how: &str) {
        let Some(mut broker) = self.broker.take() else {
            return;
        };
        // The script may have the broker as its child: the broker's own file says which process it is.
        if let Some(pid) = pid_in(&self.directory.path().join("pid")) {
            signal(pid, how);
            until_gone(pid);
        }
        kill(&mut broker);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(&self.directory.path().join("log"));
        }
        self.end("KILL");
        kill(&mut self.mapper);
    }
}

fn pid_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn show_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(120)..];
        eprintln!("--- {} ---\n{}", entry.path().display(), last.join("\n"));
    }
}
