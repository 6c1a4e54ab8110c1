//! The first two hundred seeds, and that a broken product would not pass them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use simulation::{Options, Outcome, Rule, Stage};
use std::ops::Range;

fn all_is_well(seeds: Range<u64>) {
    let stage = Stage::new().unwrap();
    let runs = seeds.map(|seed| stage.run(seed, Options::default()).unwrap());
    let failed: Vec<Outcome> = runs.filter(|run| !run.findings.is_empty()).collect();
    for Outcome { seed, findings, .. } in &failed {
        eprintln!(
            "make simulate SEED={seed}:\n    {}",
            findings.join("\n    ")
        );
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn seeds_0_to_49() {
    all_is_well(0..50);
}

#[test]
fn seeds_50_to_99() {
    all_is_well(50..100);
}

#[test]
fn seeds_100_to_149() {
    all_is_well(100..150);
}

#[test]
fn seeds_150_to_199() {
    all_is_well(150..200);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let stage = Stage::new().unwrap();
    let traced = Options {
        traced: true,
        ..Options::default()
    };
    for seed in 0..4 {
        let (one, two) = (
            stage.run(seed, traced).unwrap(),
            stage.run(seed, traced).unwrap(),
        );
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_eq!(one.digest, two.digest, "seed {seed}");
        let untraced = stage.run(seed, Options::default()).unwrap();
        assert_eq!(one.findings, untraced.findings, "seed {seed}");
        assert_eq!(one.converged_in, untraced.converged_in, "seed {seed}");
    }
}

/// Runs seeds until one of them notices that a rule is broken.
fn somebody_notices(rule: Rule) {
    let stage = Stage::new().unwrap();
    let options = Options {
        broken: Some(rule),
        ..Options::default()
    };
    let noticed = (0..100)
        .map(|seed| stage.run(seed, options).unwrap())
        .find(|run| !run.findings.is_empty());
    let Outcome { seed, findings, .. } = noticed.expect("no seed noticed it");
    eprintln!("seed {seed} noticed: {}", findings.join("; "));
}

#[test]
fn a_broken_fence_is_noticed() {
    somebody_notices(Rule::Fence);
}

#[test]
fn a_broken_outbox_is_noticed() {
    somebody_notices(Rule::Outbox);
}
