//! A Docker Engine of one test's own, which may be stopped, in a network namespace: together they are
//! another machine. Needs root.

use crate::daemon::{kill, logging, signal, until_gone};
use crate::eventually;
use crate::netns::Netns;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A machine with an engine, which has the image `busybox` and nothing else. Both go when it is dropped.
pub struct Machine {
    /// Its network.
    pub network: Netns,
    directory: tempfile::TempDir,
    engine: Option<Child>,
}

impl Machine {
    /// Makes one and starts its engine.
    pub async fn start() -> Self {
        // Its sockets may not have names of more than 107 bytes.
        let directory = tempfile::Builder::new()
            .prefix("lsm")
            .tempdir_in("/tmp")
            .expect("a directory");
        let mut machine = Self {
            network: Netns::create(),
            directory,
            engine: None,
        };
        machine.launch().await;
        machine.load("busybox");
        machine
    }

    /// Starts the engine (again) and waits until it answers.
    pub async fn launch(&mut self) {
        let path = self.directory.path();
        let place = |name: &str| path.join(name).to_str().expect("UTF-8").to_owned();
        let mut command = Command::new("nsenter");
        command
            .arg(self.network.enter())
            .args(["dockerd", "--data-root", &place("data")])
            .args(["--exec-root", &place("exec"), "--pidfile", &place("pid")])
            .args(["--host", &self.host(), "--shutdown-timeout", "3"])
            .args(["--bip", "172.31.0.1/24"]);
        logging(&mut command, &path.join("log"));
        self.engine = Some(command.spawn().expect("dockerd starts"));
        let host = self.host();
        eventually("the engine answers", || async {
            docker(&host, &["version"])
                .output()
                .ok()?
                .status
                .success()
                .then_some(())
        })
        .await;
    }

    /// Its address, for `--docker-host` and `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// SIGTERM: it stops its containers and ends.
    pub fn stop(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            signal(engine.id(), "TERM");
            let _ = engine.wait();
        }
    }

    /// kill -9: its containers go on without it.
    pub fn kill(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            kill(&mut engine);
            // What it would have removed, and would take for an engine that still runs.
            let _ = std::fs::remove_file(self.directory.path().join("pid"));
        }
    }

    fn load(&self, image: &str) {
        let mut save = Command::new("docker")
            .args(["save", image])
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker runs");
        let image = save.stdout.take().expect("a pipe");
        let loaded = docker(&self.host(), &["load", "--quiet"])
            .stdin(image)
            .output();
        assert!(
            loaded.is_ok_and(|output| output.status.success()),
            "docker load"
        );
        assert!(
            save.wait().is_ok_and(|status| status.success()),
            "docker save"
        );
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.engine.is_some() {
            // Containers that a failed test left would keep the namespace alive.
            let left = docker(&self.host(), &["ps", "--quiet"]).output();
            let left = left.map(|output| output.stdout).unwrap_or_default();
            for container in String::from_utf8_lossy(&left).lines() {
                let _ = docker(&self.host(), &["kill", container]).output();
            }
        }
        self.stop();
        end_leftovers(self.directory.path());
        // Its data holds mounts of layers until they are let go.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.directory.path().to_str().expect("UTF-8");
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if mount.starts_with(here) {
                let _ = Command::new("umount").args(["--lazy", mount]).status();
            }
        }
    }
}

/// containerd and its shims, which outlive an engine that was killed.
fn end_leftovers(directory: &Path) {
    let needle = directory.to_str().expect("UTF-8");
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(needle) {
            signal(pid, "KILL");
            until_gone(pid);
        }
    }
}

fn docker(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", host]).args(arguments);
    command
}

/// Reads a container's page by the machine's own network, also while its cable is cut.
pub fn page_inside(machine: &Machine, port: u16) -> Option<String> {
    let url = format!("http://127.0.0.1:{port}");
    let output = Command::new("nsenter")
        .arg(machine.network.enter())
        .args(["curl", "--silent", "--fail", "--max-time", "2", &url])
        .output()
        .expect("curl runs");
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
