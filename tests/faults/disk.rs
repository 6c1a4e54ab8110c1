//! The disk of a node's state directory is full.

use crate::fleet::{Fleet, Place};
use crate::table::Fault;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::fixture::hello;
use testkit::{body_of, eventually};

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
    // Where the journal finds room in its own file, it is the fetch that finds none.
    let name = fleet.node_name("node");
    let (gave_up, said) = eventually("the full disk is said", || async {
        let mut latest = fleet.api.deployment(&id).await["latestRevision"].take();
        if latest["status"] == "FAILED" {
            return Some((true, latest["statusDetail"].take()));
        }
        let mut of_nodes = fleet.api.nodes().await.into_iter();
        of_nodes
            .find(|node| node["name"] == name && node["status"] == "NOT_READY")
            .map(|mut node| (false, node["detail"].take()))
    })
    .await;
    let said = said.as_str().unwrap_or_default();
    assert!(said.contains("space"), "{said}");
    assert!(gave_up || said.contains("journal"), "{said}");
    assert_eq!(body_of(&url).await.as_deref(), Some("one"), "it serves on");

    disk.free();
    line.is_over();
    fleet.until_ready("node").await;
    // The journal may have waited for room, and the fetch beside it have failed all the same.
    let is_decided = |now: &serde_json::Value| {
        let latest = &now["latestRevision"]["status"];
        latest == "RUNNING" || latest == "FAILED"
    };
    let second = fleet.api.until(&id, "it is decided", is_decided).await;
    if second["latestRevision"]["status"] == "FAILED" {
        let answer = fleet.api.act("redeployDeployment", &id).await;
        assert!(answer.errors.is_empty(), "{answer:?}");
        fleet.api.until_latest(&id, 3, "RUNNING").await;
    }
    assert_eq!(body_of(&url).await.as_deref(), Some("two"));
    fleet.settle().await;
    line.converged();
    fleet.clear().await;
}
