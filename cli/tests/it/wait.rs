//! `deploy --wait`: what is shown, and the exit code.

use crate::fake::Act::{Break, GoAway, Line, LogEnd, Missed, Step};
use crate::fake::{Act, Fake, Script};
use crate::run::{Output, against};
use serde_json::Value;

const DEPLOY: [&str; 5] = [
    "deploy",
    "app",
    "--git",
    "https://git.example/app.git",
    "--wait",
];

async fn deploy(script: Script, more: &[&str]) -> Output {
    let fake = Fake::start(script).await;
    against(&fake, &[&DEPLOY, more].concat()).await
}

fn one(acts: &[Act]) -> Script {
    Script {
        connections: [acts.to_vec()].into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn running_prints_steps_log_and_url() {
    let acts = [
        Step("REQUESTED"),
        Step("FETCHING"),
        Line("Step 1\u{1b}[2J"),
        Step("RUNNING"),
        Line("the last line"),
        LogEnd,
    ];
    let output = deploy(
        Script {
            active: Some(("r-2", "RUNNING")),
            ..one(&acts)
        },
        &[],
    )
    .await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    for (earlier, later) in [
        ("REQUESTED", "FETCHING"),
        ("FETCHING", "Step 1"),
        ("Step 1", "RUNNING"),
        ("RUNNING", "the last line"),
    ] {
        let place = |word: &str| {
            lines
                .iter()
                .position(|line| line.contains(word))
                .unwrap_or_else(|| panic!("no {word}: {lines:?}"))
        };
        assert!(place(earlier) < place(later), "{lines:?}");
    }
    assert_eq!(lines.last(), Some(&"http://127.0.0.1:3042"));
    assert!(!output.stdout.contains('\u{1b}'), "{output:?}");
}

#[tokio::test]
async fn the_exit_code_says_what_became_of_it() {
    let check = async |last: &'static str, active, expected: i32| {
        let output = deploy(
            Script {
                active,
                ..one(&[Step("REQUESTED"), Step(last), LogEnd])
            },
            &[],
        )
        .await;
        assert_eq!(output.code, Some(expected), "{last}: {output:?}");
        assert!(
            !output.stdout.contains('\u{1b}') && !output.stderr.contains('\u{1b}'),
            "{output:?}"
        );
    };
    check("RUNNING", Some(("r-2", "RUNNING")), 0).await;
    check("FAILED", Some(("r-1", "RUNNING")), 2).await;
    check("FAILED", None, 3).await;
    check("CANCELLED", None, 4).await;
    check("SUPERSEDED", Some(("r-3", "RUNNING")), 4).await;
}

#[tokio::test]
async fn time_can_run_out() {
    let output = deploy(one(&[Step("REQUESTED")]), &["--timeout", "300ms"]).await;
    assert_eq!(output.code, Some(5), "{output:?}");
    assert!(output.stderr.contains("deployment show app"), "{output:?}");
}

#[tokio::test]
async fn a_server_that_stops_is_left_for_the_next() {
    let first = vec![Step("REQUESTED"), Line("one"), Missed("FETCHING"), GoAway];
    let second = vec![Line("two"), Step("RUNNING"), LogEnd];
    let script = Script {
        connections: [first, second].into(),
        active: Some(("r-2", "RUNNING")),
        ..Script::default()
    };
    let output = deploy(script, &[]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let stopping = "closed with 1001 The server is stopping: connect again; connecting again";
    let told = format!("{}{}", output.stdout, output.stderr);
    assert!(told.contains(stopping), "{output:?}");
    for word in ["REQUESTED", "FETCHING", "RUNNING", "one", "two"] {
        let times = output.stdout.lines().filter(|line| line.trim() == word);
        assert!(times.count() <= 1, "{word}: {output:?}");
        assert!(output.stdout.contains(word), "{word}: {output:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_loses_nothing_and_repeats_nothing() {
    let first = vec![Step("REQUESTED"), Line("one"), Missed("FETCHING"), Break];
    let second = vec![Line("two"), Step("RUNNING"), LogEnd];
    let script = Script {
        connections: [first, second].into(),
        active: Some(("r-2", "RUNNING")),
        ..Script::default()
    };
    let output = deploy(script, &[]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    for word in ["REQUESTED", "FETCHING", "RUNNING", "one", "two"] {
        let times = output
            .stdout
            .lines()
            .filter(|line| line.trim() == word)
            .count();
        assert_eq!(times, 1, "{word}: {output:?}");
    }
    assert!(output.stderr.contains("connecting again"), "{output:?}");
}

#[tokio::test]
async fn json_is_one_document_and_the_rest_goes_to_standard_error() {
    let output = deploy(
        one(&[Step("REQUESTED"), Line("a line"), Step("FAILED"), LogEnd]),
        &["--output", "json"],
    )
    .await;
    let outcome: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(
        (outcome["exitCode"].as_i64(), outcome["outcome"].as_str()),
        (Some(3), Some("FAILED"))
    );
    assert_eq!(output.code, Some(3));
    assert!(
        output.stderr.contains("a line") && output.stderr.contains("BUILD_FAILED"),
        "{output:?}"
    );
}

#[tokio::test]
async fn an_existing_deployment_of_the_same_source_is_deployed_again() {
    let script = Script {
        exists: Some("https://git.example/app.git"),
        active: Some(("r-2", "RUNNING")),
        ..one(&[Step("RUNNING"), LogEnd])
    };
    let fake = Fake::start(script).await;
    let output = against(&fake, &DEPLOY).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.contains("exists and is being deployed again"),
        "{output:?}"
    );
    assert!(
        fake.script
            .lock()
            .unwrap()
            .asked
            .iter()
            .any(|query| query.contains("redeployDeployment"))
    );
}

#[tokio::test]
async fn one_of_another_source_is_a_conflict() {
    let fake = Fake::start(Script {
        exists: Some("https://git.example/other.git"),
        ..Script::default()
    })
    .await;
    let output = against(&fake, &DEPLOY).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("CONFLICT") && output.stderr.contains("other.git"),
        "{output:?}"
    );
    assert!(
        !fake
            .script
            .lock()
            .unwrap()
            .asked
            .iter()
            .any(|query| query.contains("mutation")),
        "nothing was done"
    );
}
