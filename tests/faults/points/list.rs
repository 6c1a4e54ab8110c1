//! The list of places is what the sources have, and each place has its test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The places that are marked in the sources, each as often as it is there.
fn marked() -> Vec<String> {
    let mut marked = Vec::new();
    for room in ["shared", "orchestrator", "schema", "node", "cli"] {
        for file in rust_files(&root().join(room).join("src")) {
            let text = std::fs::read_to_string(file).expect("a file");
            let marks = text.split("fail_point!(\"").skip(1);
            marked.extend(marks.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    marked.sort();
    marked
}

#[test]
fn the_list_is_what_the_sources_have() {
    assert_eq!(
        marked(),
        shared::failpoint::ALL,
        "sorted, and each place once"
    );
}

#[test]
fn every_place_has_its_fault() {
    let tests = ["node.rs", "orchestrator.rs"].map(|file| {
        std::fs::read_to_string(root().join("tests/faults/points").join(file)).expect("a file")
    });
    // Every text in them that begins as a place does: one that is gone is found as well.
    let tried: BTreeSet<&str> = tests
        .iter()
        .flat_map(|test| test.split('"'))
        .flat_map(|text| text.split(';'))
        .filter(|text| text.starts_with("node::") || text.starts_with("orchestrator::"))
        .filter_map(|text| text.split('=').next())
        .collect();
    let all: BTreeSet<&str> = shared::failpoint::ALL.iter().copied().collect();
    assert_eq!(tried, all);
}
