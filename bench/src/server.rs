//! A standalone server in a directory of its own.

use anyhow::Result;
use std::path::Path;
use std::process::Stdio;
use testkit::api::Api;
use tokio::process::{Child, Command};

/// A running server; ended and cleaned up by [`Server::clean_up`].
pub(crate) struct Server {
    pub(crate) api: Api,
    child: Child,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(binary: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let listen = format!("127.0.0.1:{}", testkit::free_port());
        let log = std::fs::File::create(data.path().join("log"))?;
        let child = Command::new(binary)
            .args(["standalone", "--listen", &listen, "--data-dir"])
            .arg(data.path().join("data"))
            .env("LONGSHORE_ADMIN_TOKEN", testkit::TOKEN)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let api = Api::new(&format!("http://{listen}"));
        api.until_ready().await;
        Ok(Self {
            api,
            child,
            _data: data,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Destroys what was deployed and ends the server.
    pub(crate) async fn clean_up(mut self) -> Result<()> {
        self.api.destroy_all().await;
        self.child.kill().await?;
        Ok(())
    }
}
