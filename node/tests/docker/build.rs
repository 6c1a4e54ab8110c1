//! Building images.

use crate::support::{Fixture, process_with, ticks};
use node::docker::BuildError;
use node::log_sink::LogSink;
use shared::spec::ByteSize;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A word that is on the command line of nothing else.
fn unique_seconds() -> String {
    format!("1{:07}", uuid::Uuid::new_v4().as_u128() % 10_000_000)
}

async fn build(
    fixture: &Fixture,
    dockerfile: &str,
) -> (Result<node::docker::ImageInfo, BuildError>, Vec<String>) {
    let (log, mut lines) = LogSink::collecting();
    let order = fixture.build_order(&[("Dockerfile", dockerfile), ("a.txt", "A\n")]);
    let built = fixture
        .engine
        .build(&order, &log, &CancellationToken::new())
        .await;
    (built, lines.texts())
}

async fn failure(fixture: &Fixture, dockerfile: &str) -> String {
    match build(fixture, dockerfile).await {
        (Err(BuildError::Failed { detail }), _) => detail,
        (other, lines) => panic!("{other:?}: {lines:?}"),
    }
}

#[tokio::test]
async fn an_image_is_built_and_its_steps_are_told() {
    let fixture = Fixture::new().await;
    let stamp = fixture.deployment;
    let dockerfile = format!(
        "FROM busybox\nRUN echo hello-{stamp} && echo oops >&2\nCOPY a.txt /a.txt\nEXPOSE 8080\nHEALTHCHECK CMD true\nSTOPSIGNAL SIGINT\n"
    );
    let (built, lines) = build(&fixture, &dockerfile).await;
    let image = built.unwrap();
    assert_eq!(
        (image.healthcheck, image.exposed.as_slice()),
        (true, [8080].as_slice())
    );
    assert_eq!(image.stop_signal.as_deref(), Some("SIGINT"));
    let said = |text: &str| lines.iter().filter(|line| *line == text).count();
    assert_eq!(
        (said(&format!("hello-{stamp}")), said("oops")),
        (1, 1),
        "{lines:#?}"
    );
    let step = format!("RUN echo hello-{stamp}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with('[') && line.contains(&step)),
        "{lines:#?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("[internal]")),
        "{lines:#?}"
    );

    let (again, lines) = build(&fixture, &dockerfile).await;
    assert_eq!(again.unwrap().id, image.id);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("CACHED") && line.contains(&step)),
        "{lines:#?}"
    );
    assert_eq!(
        fixture
            .engine
            .images_of(fixture.deployment)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_failing_step_is_told_with_its_last_lines() {
    let fixture = Fixture::new().await;
    let detail = failure(
        &fixture,
        "FROM busybox\nRUN echo before-it; echo the reason >&2; exit 3\n",
    )
    .await;
    for part in [
        "RUN echo before-it",
        "before-it\n",
        "the reason\n",
        "exit code: 3",
    ] {
        assert!(detail.contains(part), "{part:?} in {detail}");
    }
    assert_eq!(
        fixture.engine.images_of(fixture.deployment).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_wrong_dockerfile_is_the_repositorys_fault() {
    let fixture = Fixture::new().await;
    for (dockerfile, part) in [
        ("FROM busybox\nRUM x\n", "RUM"),
        ("", "empty"),
        ("FROM busybox\nCOPY missing.txt /\n", "missing.txt"),
        (
            "# syntax=evil.example/frontend\nFROM busybox\n",
            "evil.example/frontend",
        ),
        ("FROM busybox\nRUN --network=host true\n", "network"),
        ("FROM busybox\nRUN --security=insecure true\n", "security"),
    ] {
        let detail = failure(&fixture, dockerfile).await;
        assert!(detail.contains(part), "{dockerfile:?}: {detail}");
    }
}

#[tokio::test]
async fn the_official_syntax_line_needs_no_registry() {
    let fixture = Fixture::new().await;
    let (built, lines) = build(
        &fixture,
        "# syntax=docker/dockerfile:1\nFROM busybox\nRUN true\n",
    )
    .await;
    built.unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("engine's own Dockerfile builder")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn a_cache_mount_is_not_shared_between_deployments() {
    let (one, other) = (Fixture::new().await, Fixture::new().await);
    let id = format!("shared-{}", one.deployment);
    let write =
        format!("FROM busybox\nRUN --mount=type=cache,id={id},target=/c echo secret > /c/file\n");
    let read = format!(
        "FROM busybox\nRUN --mount=type=cache,id={id},target=/c ls /c > /found; cat /found\n"
    );
    build(&one, &write).await.0.unwrap();
    let (_, lines) = build(&one, &read).await;
    assert!(lines.iter().any(|line| line == "file"), "{lines:#?}");
    let (_, lines) = build(&other, &read).await;
    assert!(!lines.iter().any(|line| line == "file"), "{lines:#?}");
}

#[tokio::test]
async fn a_build_beyond_its_time_ends_with_its_processes() {
    let fixture = Fixture::new().await;
    let seconds = unique_seconds();
    let (log, _lines) = LogSink::collecting();
    let dockerfile = format!("FROM busybox\nRUN sleep {seconds}\n");
    let mut order = fixture.build_order(&[("Dockerfile", &dockerfile)]);
    order.time_limit = Duration::from_secs(2);
    let error = fixture
        .engine
        .build(&order, &log, &CancellationToken::new())
        .await
        .unwrap_err();
    let BuildError::Timeout { step, .. } = error else {
        panic!("{error:?}")
    };
    assert!(step.contains(&seconds), "{step}");
    gone(&seconds).await;
}

#[tokio::test]
async fn a_cancelled_build_ends_with_its_processes() {
    let fixture = Fixture::new().await;
    let seconds = unique_seconds();
    let (log, _lines) = LogSink::collecting();
    let dockerfile = format!("FROM busybox\nRUN sleep {seconds}\n");
    let order = fixture.build_order(&[("Dockerfile", &dockerfile)]);
    let cancel = CancellationToken::new();
    let building = fixture.engine.build(&order, &log, &cancel);
    let cancelling = async {
        for _ in ticks(Duration::from_secs(30)) {
            if process_with(&seconds) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(process_with(&seconds), "the step never ran");
        cancel.cancel();
        Instant::now()
    };
    let (built, cancelled) = tokio::join!(building, cancelling);
    assert_eq!(built, Err(BuildError::Cancelled));
    assert!(
        cancelled.elapsed() < Duration::from_millis(250),
        "{:?}",
        cancelled.elapsed()
    );
    gone(&seconds).await;
}

/// The engine needs a moment to kill it.
async fn gone(word: &str) {
    for _ in ticks(Duration::from_secs(5)) {
        if !process_with(word) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the build's process still runs");
}

#[tokio::test]
async fn a_build_beyond_its_memory_is_killed() {
    let fixture = Fixture::new().await;
    let (log, mut lines) = LogSink::collecting();
    // Reads a line that never ends.
    let mut order = fixture.build_order(&[("Dockerfile", "FROM busybox\nRUN tail /dev/zero\n")]);
    order.memory_limit = Some(ByteSize(64 << 20));
    let error = fixture
        .engine
        .build(&order, &log, &CancellationToken::new())
        .await
        .unwrap_err();
    let BuildError::Failed { detail } = error else {
        panic!("{error:?}")
    };
    assert!(
        detail.contains("memory") && detail.contains("64M"),
        "{detail}: {:#?}",
        lines.texts()
    );
}
