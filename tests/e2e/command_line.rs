//! What `longshore deploy --wait` tells a CI job, and the commands a person uses.

use crate::process::{Standalone, longshore, longshore_as, start};
use std::ffi::OsStr;
use testkit::fixture::{DOCKERFILE, hello, with_dockerfile};
use testkit::free_port;
use testkit::git_server::GitServer;

#[tokio::test]
async fn the_exit_code_tells_what_became_of_a_deployment() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let url = &server.api.url;

    let broken = git.repository(
        "broken",
        &with_dockerfile("FROM busybox\nRUN echo the-reason >&2; exit 7\n"),
    );
    let failed = longshore(
        url,
        &[
            "deploy",
            "broken",
            "--git",
            &broken.url,
            "--poll-seconds",
            "0",
            "--wait",
        ],
    )
    .await;
    assert_eq!(failed.code, 3, "failed and nothing serves: {failed:?}");
    assert!(
        format!("{}{}", failed.stdout, failed.stderr).contains("the-reason"),
        "the build log is shown: {failed:?}"
    );

    let good = git.repository("good", &hello("one"));
    let deploy = [
        "deploy",
        "good",
        "--git",
        &good.url,
        "--poll-seconds",
        "0",
        "--wait",
    ];
    let ran = longshore(url, &deploy).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    good.commit("bad", &[("Dockerfile", "FROM busybox\nRUN exit 7\n")]);
    let candidate = longshore(url, &deploy).await;
    assert_eq!(
        candidate.code, 2,
        "failed and the old one still serves: {candidate:?}"
    );

    good.commit("slow", &[("Dockerfile", "FROM busybox\nRUN sleep 600\n")]);
    let slow = longshore(
        url,
        &[
            "deploy",
            "good",
            "--git",
            &good.url,
            "--wait",
            "--timeout",
            "3s",
        ],
    )
    .await;
    assert_eq!(slow.code, 5, "timed out: {slow:?}");
    let cancelled = longshore(url, &["deployment", "cancel", "good"]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    good.commit("good again", &[("Dockerfile", DOCKERFILE)]);
    let again = longshore(url, &deploy).await;
    assert_eq!(again.code, 0, "{again:?}");

    let refused = longshore_as(url, "not-the-token", &["deployment", "list"]).await;
    assert_eq!(refused.code, 6, "not allowed: {refused:?}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let away = longshore(&nobody, &["deployment", "list"]).await;
    assert_eq!(away.code, 6, "no connection: {away:?}");
    assert!(away.stderr.contains(&nobody), "{away:?}");
    let invalid = longshore(url, &["deploy", "Not-A-Label", "--git", &good.url]).await;
    assert!(![0, 2, 3, 4, 5, 6].contains(&invalid.code), "{invalid:?}");
    server.clean_up().await;
}

#[tokio::test]
async fn a_superseded_deploy_says_so() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let repository = git.repository("twice", &with_dockerfile("FROM busybox\nRUN sleep 600\n"));
    let arguments = [
        "deploy",
        "twice",
        "--git",
        &repository.url,
        "--poll-seconds",
        "0",
        "--wait",
    ];
    let waiting = longshore(&server.api.url, &arguments);
    let newer = async {
        let deployment = testkit::eventually("the first is building", || async {
            let query = "{ deployments { nodes { id status } } }";
            let list =
                server.api.data(query, serde_json::json!({})).await["deployments"]["nodes"].clone();
            list.as_array()?
                .iter()
                .find(|one| one["status"] == "BUILDING")
                .cloned()
        })
        .await;
        repository.commit("quick", &[("Dockerfile", DOCKERFILE)]);
        let id = deployment["id"].as_str().expect("an id");
        assert!(
            server
                .api
                .act("redeployDeployment", id)
                .await
                .errors
                .is_empty()
        );
        server.api.until_latest(id, 2, "RUNNING").await;
    };
    let (waited, ()) = tokio::join!(waiting, newer);
    assert_eq!(waited.code, 4, "{waited:?}");
    server.clean_up().await;
}

#[tokio::test]
async fn jobs_that_deploy_the_same_at_once_all_succeed() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let repository = git.repository("race", &hello("one"));
    let arguments = ["deploy", "race", "--git", &repository.url];
    let jobs = (0..6).map(|_| longshore(&server.api.url, &arguments));
    for job in futures::future::join_all(jobs).await {
        assert_eq!(job.code, 0, "{job:?}");
    }
    let data = server
        .api
        .data("{ deployments { nodes { id } } }", serde_json::json!({}));
    let id = data.await["deployments"]["nodes"][0]["id"].clone();
    let id = id.as_str().expect("an id");
    server.api.until_latest(id, 6, "RUNNING").await;

    let typo = ["deployment", "redeploy", "race", "--ref", "mian"];
    let told = longshore(&server.api.url, &typo).await;
    let says = "it follows mian from now on (before: --ref HEAD)";
    assert!(told.stdout.contains(says), "{told:?}");
    server.clean_up().await;
}

#[tokio::test]
async fn a_log_that_never_pauses_has_an_end_without_follow() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let chatty = "FROM busybox\nCMD [\"sh\", \"-c\", \"httpd -p 8000; while true; do echo tick; sleep 0.1; done\"]\n";
    let repository = git.repository("chatty", &with_dockerfile(chatty));
    let deploy = ["deploy", "chatty", "--git", &repository.url, "--wait"];
    let deployed = longshore(&server.api.url, &deploy).await;
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let arguments = [
        "deployment",
        "logs",
        "chatty",
        "--tail",
        "3",
        "--output",
        "json",
    ];
    let logs = longshore(&server.api.url, &arguments).await.json();
    assert_eq!(logs.as_array().map(Vec::len), Some(3), "{logs}");
    server.clean_up().await;
}

#[tokio::test]
async fn every_list_and_show_has_a_json_form() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let url = &server.api.url;
    let repository = git.repository("json", &hello("one"));
    let arguments = [
        "deploy",
        "json",
        "--git",
        &repository.url,
        "--poll-seconds",
        "0",
        "--wait",
        "--output",
        "json",
    ];
    assert_eq!(longshore(url, &arguments).await.code, 0);
    assert!(
        longshore(url, &["deployment", "list", "--output", "json"])
            .await
            .json()
            .to_string()
            .contains("\"json\"")
    );
    assert!(
        longshore(url, &["deployment", "show", "json", "--output", "json"])
            .await
            .json()
            .to_string()
            .contains("RUNNING")
    );
    assert!(
        longshore(url, &["node", "list", "--output", "json"])
            .await
            .json()
            .to_string()
            .contains("READY")
    );
    let log = longshore(url, &["deployment", "logs", "json", "--build"]).await;
    assert!(log.stdout.contains("COPY index.html"), "{log:?}");
    for verb in ["stop", "start", "restart"] {
        let done = longshore(url, &["deployment", verb, "json"]).await;
        assert_eq!(done.code, 0, "{verb}: {done:?}");
        let settled = if verb == "stop" { "STOPPED" } else { "RUNNING" };
        let id = server
            .api
            .data(
                "{ deployment(name: \"json\") { id } }",
                serde_json::json!({}),
            )
            .await;
        server
            .api
            .until_status(id["deployment"]["id"].as_str().expect("an id"), settled)
            .await;
    }
    let unasked = longshore(url, &["deployment", "destroy", "json"]).await;
    assert!(
        unasked.code != 0 && unasked.stderr.contains("--yes"),
        "{unasked:?}"
    );
    assert_eq!(
        longshore(url, &["deployment", "destroy", "json", "--yes"])
            .await
            .code,
        0
    );
    assert_ne!(
        longshore(url, &["deployment", "show", "nothing-like-it"])
            .await
            .code,
        0
    );
    server.clean_up().await;
}

#[tokio::test]
async fn a_data_directory_that_is_in_use_is_left_alone() {
    let server = Standalone::start().await;
    let data = server.data_dir();
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["standalone", "--listen", &listen, "--data-dir"].map(OsStr::new);
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([data.as_os_str()]).collect();
    let mut second = start(&server.data.path().join("second.log"), &arguments);
    assert!(!second.end().await.success());
    let said = second.log();
    assert!(
        said.contains("is in use by another") && !said.contains("Longshore is at"),
        "{said}"
    );
    server.clean_up().await;
}
