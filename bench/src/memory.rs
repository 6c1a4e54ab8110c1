//! G9: proportional set size (PSS) of each role while idle, from `/proc/<pid>/smaps_rollup`.

use crate::server::Server;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use testkit::api::Api;
use testkit::services::{Broker, Database};
use tokio::process::{Child, Command};

/// The goals in MiB (PERFORMANCE.md, G9; the spine's own figure for standalone).
const GOALS: [(&str, f64); 3] = [("standalone", 40.0), ("orchestrator", 25.0), ("node", 12.0)];

pub(crate) async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary).await?;
    settle().await;
    let standalone = pss_mib(server.pid().context("running")?)?;
    server.clean_up().await?;

    let directory = tempfile::tempdir()?;
    let database = Database::create();
    let broker = Broker::create().await;
    let listen = format!("127.0.0.1:{}", testkit::free_port());
    let mut orchestrator = role(
        binary,
        directory.path(),
        &[
            "orchestrator",
            "--database-url",
            &database.url,
            "--amqp-url",
            &broker.url,
            "--listen",
            &listen,
        ],
    )?;
    let api = Api::new(&format!("http://{listen}"));
    api.until_ready().await;
    let state = directory.path().join("state");
    let mut node = role(
        binary,
        directory.path(),
        &[
            "node",
            "--name",
            "bench",
            "--amqp-url",
            &broker.url,
            "--state-dir",
            state.to_str().context("UTF-8")?,
        ],
    )?;
    api.until_node("bench", "READY").await;
    settle().await;
    let measured = [
        standalone,
        pss_mib(orchestrator.id().context("running")?)?,
        pss_mib(node.id().context("running")?)?,
    ];
    for ((name, goal), value) in GOALS.iter().zip(measured) {
        println!(
            "{name:<14} {value:>6.1} MiB PSS idle   goal {goal:>4.0}   {:.2} of it",
            value / goal
        );
    }
    node.kill().await?;
    orchestrator.kill().await?;
    Ok(())
}

/// Idle means: a few heartbeats after the last work.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
}

fn role(binary: &Path, directory: &Path, arguments: &[&str]) -> Result<Child> {
    let log = std::fs::File::create(directory.join(arguments[0]))?;
    Ok(Command::new(binary)
        .args(arguments)
        .env("LONGSHORE_ADMIN_TOKEN", testkit::TOKEN)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?)
}

/// The proportional set size of a process.
pub(crate) fn pss_mib(pid: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .context("a Pss line")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?;
    Ok(kib / 1024.0)
}
