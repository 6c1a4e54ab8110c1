//! A whole node on this machine: a repository becomes a container that answers on its leased port.
//!
//! These need a Docker Engine (`scripts/services.sh` starts one) and the image `busybox`
//! (`scripts/base-images.sh` makes it).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

#[path = "deploy/support.rs"]
mod support;

use shared::message::{NodeReport, ServiceSelection, WorkAction};
use shared::status::{ApplicationStatus as S, FailureReason};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use support::{Stage, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_becomes_an_answer_and_goes_without_a_trace() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));

    stage
        .send(WorkAction::Stop(ServiceSelection::default()))
        .await;
    stage.until(S::Stopped).await;
    assert_eq!(stage.get().await, None, "it refuses while it is stopped");
    stage
        .send(WorkAction::Restart(ServiceSelection::default()))
        .await;
    stage.until(S::Running).await;
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));

    stage.send(WorkAction::Destroy { volumes: true }).await;
    stage.until(S::Destroyed).await;
    stage.check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeploy_keeps_the_port_and_loses_no_request() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;

    let done = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU32::new(0));
    let url = stage.url();
    let asking = tokio::spawn({
        let (done, asked) = (done.clone(), asked.clone());
        async move {
            let mut lost = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match support::get(&url).await {
                    Ok(body) if body == "one\n" || body == "two\n" => {}
                    other => lost.push(other),
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            lost
        }
    });
    stage.commit(&[("index.html", "two\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    assert_eq!(stage.get().await.as_deref(), Some("two\n"));
    stage.until_containers(1).await;
    done.store(true, Ordering::Relaxed);
    let lost = asking.await.unwrap();
    assert!(asked.load(Ordering::Relaxed) > 20);
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_exits_leaves_the_old_one_serving() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    stage.commit(&[(
        "Dockerfile",
        "FROM busybox\nCMD [\"sh\", \"-c\", \"echo dying words; exit 7\"]\n",
    )]);
    stage.deploy().await;
    let failed = stage.until(S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::Unhealthy));
    let detail = failed.detail.unwrap();
    assert!(
        detail.contains("exited with code 7") && detail.contains("dying words"),
        "{detail}"
    );
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));
    stage.until_containers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_listens_elsewhere_is_told_where() {
    let mut stage = Stage::new().await;
    let elsewhere = WEB.replace("8000", "3000");
    let impatient = "[config]\ndockerfile = \"Dockerfile\"\nport = 8000\n[health]\nstart_period = \"1s\"\ninterval = \"1s\"\nretries = 1\n";
    stage.commit(&[
        ("Dockerfile", &elsewhere),
        ("index.html", "one\n"),
        ("Config.toml", impatient),
    ]);
    stage.deploy().await;
    let failed = stage.until(S::Failed).await;
    let detail = failed.detail.unwrap();
    assert!(detail.contains("nothing listens on port 8000"), "{detail}");
    assert!(detail.contains("the container listens on 3000"), "{detail}");
    stage.until_containers(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_seen_and_over() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    let running = stage.until(S::Running).await;
    let container = running.facts.services.unwrap()[0]
        .container
        .clone()
        .unwrap();
    let pid = stage.docker(&["inspect", "--format", "{{.State.Pid}}", &container]);
    stage.run("kill", &["-9", pid.trim()]);
    let degraded = stage.until(S::Degraded).await;
    assert!(degraded.detail.unwrap().contains("exited with code 137"));
    let again = stage.until_after(degraded.seq, S::Running).await;
    assert_eq!(again.facts.services.unwrap()[0].restarts, 1);
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_finds_what_it_runs_and_ports_answer_meanwhile() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    let running = stage.until(S::Running).await;
    let container = running.facts.services.unwrap()[0].container.clone();
    stage.kill();
    assert_eq!(
        stage.get().await.as_deref(),
        Some("one\n"),
        "no node is needed to answer"
    );
    stage.start().await;
    stage.commit(&[("index.html", "two\n")]);
    stage.deploy().await;
    let again = stage.until(S::Running).await;
    assert_ne!(again.facts.services.unwrap()[0].container, container);
    assert_eq!(stage.get().await.as_deref(), Some("two\n"));
    tokio::time::timeout(Duration::from_secs(30), stage.until_containers(1))
        .await
        .unwrap();
}

/// The network of a first deployment is made while its image is. A pool has only so many: it goes when
/// nothing came of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_was_made_for_a_failed_build_goes_with_it() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", "FROM busybox\nRUN false\n")]);
    stage.deploy().await;
    let failed = stage.until(S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::BuildFailed));
    assert_eq!(stage.networks(), "");

    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    let networks = stage.networks();
    assert_eq!(networks.lines().count(), 1, "{networks}");

    // What serves keeps it, whatever fails beside it.
    stage.commit(&[("Dockerfile", "FROM busybox\nRUN false\n")]);
    stage.deploy().await;
    stage.until(S::Failed).await;
    assert_eq!(stage.networks(), networks);

    stage.send(WorkAction::Destroy { volumes: true }).await;
    stage.until(S::Destroyed).await;
    stage.check_nothing_is_left().await;
}

/// Making the network beforehand is a help, not a condition: why it cannot be made is said where it
/// is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cannot_be_made_fails_the_start_not_the_build() {
    let _taken = Taken::new("longshore-test-taken-pool", "10.235.77.0/28");
    let pool = (Ipv4Addr::new(10, 235, 77, 0), 28);
    let mut stage = Stage::with(|settings| settings.network_pool = pool).await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    let failed = stage.until(S::Failed).await;
    assert_eq!(failed.failure_reason, Some(FailureReason::StartFailed));
    assert_eq!(stage.networks(), "");
    stage.until_containers(0).await;
}

/// Somebody else's network.
struct Taken(&'static str);

impl Taken {
    fn new(name: &'static str, subnet: &str) -> Self {
        docker(&["network", "create", "--subnet", subnet, name]);
        Self(name)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        docker(&["network", "rm", self.0]);
    }
}

fn docker(arguments: &[&str]) {
    let done = std::process::Command::new("docker")
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "docker {arguments:?}: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_taken_up_after_the_journal_was_deleted() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    let running = stage.until(S::Running).await;
    stage.lose_journal();
    stage.start().await;
    stage.tell(1, Some(S::Running)).await;
    stage
        .until_said(|said| matches!(said, NodeReport::Missing(missing) if missing.adoptable))
        .await;
    stage.adopt(&running).await;
    let again = stage.until(S::Running).await;
    assert_eq!(again.facts, running.facts, "the very same containers");
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));

    // It is the node's again: the next revision replaces it.
    stage.commit(&[("index.html", "two\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    assert_eq!(stage.get().await.as_deref(), Some("two\n"));
    stage.until_containers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_picture_names_goes_without_a_trace() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    stage.until(S::Running).await;
    stage.tell(1, None).await;
    stage
        .until_said(|said| matches!(said, NodeReport::Removed(_)))
        .await;
    stage
        .until_said(|said| matches!(said, NodeReport::Reconciled(_)))
        .await;
    stage.check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_stopped_or_removed_by_hand_comes_back() {
    let mut stage = Stage::new().await;
    stage.commit(&[("Dockerfile", WEB), ("index.html", "one\n")]);
    stage.deploy().await;
    let running = stage.until(S::Running).await;
    let container = running.facts.services.unwrap()[0].container.clone();
    let container = container.unwrap();

    stage.docker(&["stop", "--time", "1", &container]);
    let degraded = stage.until(S::Degraded).await;
    let again = stage.until_after(degraded.seq, S::Running).await;
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));

    stage.docker(&["rm", "--force", &container]);
    let degraded = stage.until_after(again.seq, S::Degraded).await;
    let again = stage.until_after(degraded.seq, S::Running).await;
    let made = again.facts.services.unwrap()[0].container.clone();
    assert_ne!(made.as_deref(), Some(container.as_str()));
    assert_eq!(stage.get().await.as_deref(), Some("one\n"));
    stage.until_containers(1).await;
}
