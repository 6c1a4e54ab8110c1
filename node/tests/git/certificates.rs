//! Which children are given certificate authorities.

use crate::submodules::add;
use crate::support::{CONFIG, DOCKERFILE, Place, child};
use node::git::{ChildProgram, FetchOrder};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use testkit::git_server::GitServer;

/// A child that first writes down how it was started.
fn noting(dir: &Path) -> (ChildProgram, PathBuf) {
    let (script, notes) = (dir.join("child"), dir.join("notes"));
    let text = format!(
        "#!/bin/sh\necho \"${{LONGSHORE_NO_CERTIFICATES:-with}}\" >> '{}'\nexec '{}'\n",
        notes.display(),
        child().program.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = ChildProgram {
        program: script,
        args: Vec::new(),
    };
    (program, notes)
}

async fn started(place: &Place, url: &str) -> (String, bool) {
    let (child, notes) = noting(place.dir.path());
    let order = FetchOrder {
        child,
        ..place.order(url)
    };
    let fetched = place.run(order).await.is_ok();
    let started = std::fs::read_to_string(&notes).unwrap();
    std::fs::remove_file(notes).unwrap();
    (started, fetched)
}

#[tokio::test]
async fn only_a_child_that_speaks_tls_has_them() {
    let server = GitServer::start().await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    assert_eq!(
        started(&place, &repository.url).await,
        ("1\n".to_owned(), true)
    );
    assert_eq!(
        started(&place, "https://nowhere.invalid/a.git").await,
        ("with\n".to_owned(), false)
    );
}

/// Nothing tells beforehand that the submodule of a repository on plain HTTP is on HTTPS.
#[tokio::test]
async fn a_submodule_over_tls_has_the_child_started_again_with_them() {
    let server = GitServer::start().await;
    let inner = server.repository("inner", &[("x", "1")]);
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    add(
        &repository,
        &inner,
        "lib",
        "https://nowhere.invalid/inner.git",
    );
    let mut place = Place::new();
    assert_eq!(
        started(&place, &repository.url).await,
        ("1\nwith\n".to_owned(), false)
    );
    let lines = place.lines.texts().join("\n");
    assert!(!lines.contains("waiting for another"), "{lines}");
}
