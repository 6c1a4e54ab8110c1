//! The disk of a node's state directory is full.

use crate::fleet::{Fleet, Place};
use crate::table::Fault;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::body_of;
use testkit::fixture::hello;

/// A file system of its own, small and in memory; it goes when it is dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "none"])
            .arg(directory.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount");
        Self { directory }
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }

    /// Leaves not one page.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        let block = vec![0; 4096];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let mut line = Fault::new("disk full in a node's state directory");
    let disk = SmallDisk::mount(16);
    let mut fleet = Fleet::new().await;
    fleet.orchestrator("orchestrator", "").await;
    let place = Place {
        state_dir: Some(disk.path().join("state")),
        ..Place::default()
    };
    fleet.node_at("node", "", place).await;
    fleet.until_ready("node").await;
    let repository = fleet.git.repository("app", &hello("one"));
    let deployment = fleet.api.create_git("app", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    let running = fleet.api.until_latest(&id, 1, "RUNNING").await;
    let url = running["url"].as_str().expect("a URL").to_owned();

    disk.fill();
    repository.commit("second", &[("index.html", "two")]);
    let answer = fleet.api.act("redeployDeployment", &id).await;
    assert!(answer.errors.is_empty(), "{answer:?}");
    let name = fleet.node_name("node");
    let node = fleet.api.until_node(&name, "NOT_READY").await;
    let detail = node["detail"].as_str().unwrap_or("");
    assert!(
        detail.contains("journal") && detail.contains("space"),
        "{node}"
    );
    assert_eq!(body_of(&url).await.as_deref(), Some("one"), "it serves on");

    disk.free();
    line.is_over();
    fleet.until_ready("node").await;
    fleet.api.until_latest(&id, 2, "RUNNING").await;
    assert_eq!(body_of(&url).await.as_deref(), Some("two"));
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
