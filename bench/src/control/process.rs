//! The orchestrator that is measured, as people run it.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use testkit::api::Api;
use tokio::process::{Child, Command};

/// A running `longshore orchestrator`.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(crate) async fn start(
        binary: &Path,
        database: &str,
        broker: &str,
        directory: &Path,
    ) -> Result<Self> {
        let address = format!("127.0.0.1:{}", testkit::free_port());
        let path = directory.join("orchestrator.log");
        let log = std::fs::File::create(&path)?;
        let child = Command::new(binary)
            .args(["orchestrator", "--listen", &address])
            .env("LONGSHORE_DATABASE_URL", database)
            .env("LONGSHORE_AMQP_URL", broker)
            .env("LONGSHORE_ADMIN_TOKEN", testkit::TOKEN)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Api::new(&format!("http://{address}")).until_ready().await;
        Ok(Self {
            address,
            child,
            log: path,
        })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the orchestrator runs")
    }

    /// What it warned of so far, the last of it.
    pub(crate) fn complaints(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its proportional set size.
    pub(crate) fn pss_mib(&self) -> Result<f64> {
        crate::memory::pss_mib(self.pid()?)
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The broker's process, as its management API names it; it does so some seconds after its start.
pub(crate) async fn broker_pid() -> Result<u32> {
    for _ in 0..60 {
        if let Some(pid) = named_pid().await? {
            return Ok(pid);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("the broker's management API does not name its process")
}

async fn named_pid() -> Result<Option<u32>> {
    let base = std::env::var("LONGSHORE_TEST_AMQP_MANAGEMENT")
        .context("LONGSHORE_TEST_AMQP_MANAGEMENT")?;
    let output = Command::new("curl")
        .args(["-fsS", &format!("{base}/api/nodes")])
        .output()
        .await?;
    let nodes: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let pid = nodes[0]["os_pid"].as_str();
    Ok(pid.map(str::parse).transpose()?)
}
