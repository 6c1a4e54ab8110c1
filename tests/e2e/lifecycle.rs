//! What runs is stopped, started, replaced, gone back from, and crashes.

use crate::process::{Standalone, text};
use serde_json::{Value, json};
use testkit::docker;
use testkit::fixture::{DOCKERFILE, hello};
use testkit::git_server::GitServer;
use testkit::{body_of, eventually};

#[tokio::test]
async fn stop_start_and_restart_keep_the_port_and_the_url() {
    let git = GitServer::start().await;
    // It listens some time after it was started, so that what is told of its stop comes before.
    let slow = DOCKERFILE.replace("httpd -f", "sleep 1; httpd -f");
    let mut files = hello("one");
    files[1] = ("Dockerfile", &slow);
    let repository = git.repository("lifecycle", &files);
    let server = Standalone::start().await;
    let deployment = server.api.create_git("lifecycle", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let running = server.api.until_status(&id, "RUNNING").await;
    let url = text(&running, "/url").to_owned();

    assert!(
        server
            .api
            .act("stopDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    let stopped = server.api.until_status(&id, "STOPPED").await;
    assert_eq!(
        stopped["ports"], running["ports"],
        "leases live while it is stopped"
    );
    assert_eq!(docker::running(&id), Vec::<String>::new());
    assert_eq!(body_of(&url).await, None);

    assert!(
        server
            .api
            .act("startDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    let started = server.api.until_status(&id, "RUNNING").await;
    assert_eq!(text(&started, "/url"), url);
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));

    let container = docker::running(&id).pop().expect("one container");
    let since = docker::inspect(&container)["State"]["StartedAt"].clone();
    assert!(
        server
            .api
            .act("restartDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    eventually("it was restarted and runs", || async {
        let now = docker::running(&id).pop()?;
        let restarted = docker::inspect(&now)["State"]["StartedAt"] != since;
        (restarted && server.api.deployment(&id).await["status"] == "RUNNING").then_some(())
    })
    .await;
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));
    server.clean_up().await;
}

#[tokio::test]
async fn a_failed_candidate_leaves_the_old_revision_serving() {
    let git = GitServer::start().await;
    let repository = git.repository("candidate", &hello("one"));
    let server = Standalone::start().await;
    let deployment = server.api.create_git("candidate", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let running = server.api.until_status(&id, "RUNNING").await;
    let url = text(&running, "/url").to_owned();

    // It builds and starts, but ends at once.
    repository.commit(
        "broken",
        &[(
            "Dockerfile",
            "FROM busybox\nCMD [\"sh\", \"-c\", \"echo no luck today; exit 3\"]\n",
        )],
    );
    assert!(
        server
            .api
            .act("redeployDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    let after = server.api.until_latest(&id, 2, "FAILED").await;
    assert_eq!(after["status"], "RUNNING");
    assert_eq!(after["failureReason"], Value::Null);
    assert_eq!(after["latestRevision"]["failureReason"], "UNHEALTHY");
    let detail = text(&after, "/latestRevision/statusDetail");
    assert!(
        detail.contains("no luck today") && detail.contains('3'),
        "{detail}"
    );
    assert!(
        text(&after, "/statusDetail").contains("revision 2"),
        "{after:#}"
    );
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));
    assert_eq!(
        docker::containers(&id).len(),
        1,
        "nothing of the failed one is left"
    );

    // Back to what worked, as a revision of its own.
    repository.commit(
        "third",
        &[
            ("Dockerfile", testkit::fixture::DOCKERFILE),
            ("index.html", "three"),
        ],
    );
    assert!(
        server
            .api
            .act("redeployDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    server.api.until_latest(&id, 3, "RUNNING").await;
    assert_eq!(body_of(&url).await.as_deref(), Some("three"));
    let rollback = "mutation($id: ID!) { rollbackDeployment(id: $id, toRevision: 1) { id } }";
    assert!(
        server
            .api
            .ask(rollback, json!({ "id": id }))
            .await
            .errors
            .is_empty()
    );
    server.api.until_latest(&id, 4, "RUNNING").await;
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));
    server.clean_up().await;
}

#[tokio::test]
async fn a_crash_is_degraded_and_recovers_with_the_restart_count() {
    let git = GitServer::start().await;
    let repository = git.repository("crash", &hello("one"));
    let server = Standalone::start().await;
    let deployment = server.api.create_git("crash", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let running = server.api.until_status(&id, "RUNNING").await;
    let revision = text(&running, "/activeRevision/id").to_owned();

    // Kills what runs inside; the engine's restart policy brings it back.
    let container = docker::running(&id).pop().expect("one container");
    let pid = docker::inspect(&container)["State"]["Pid"].to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .expect("kill runs")
            .success()
    );
    eventually("it was DEGRADED and is RUNNING again", || async {
        let events = server.api.events(&revision).await;
        let told: Vec<&str> = events.iter().map(|event| text(event, "/status")).collect();
        told.ends_with(&["RUNNING", "DEGRADED", "RUNNING"])
            .then_some(())
    })
    .await;
    let recovered = server
        .api
        .until(&id, "one restart is counted", |now| {
            now["services"][0]["restarts"] == 1
        })
        .await;
    assert_eq!(
        body_of(text(&recovered, "/url")).await.as_deref(),
        Some("one")
    );
    server.clean_up().await;
}
