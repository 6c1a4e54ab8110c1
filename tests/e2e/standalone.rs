//! A Git URL becomes a running, watched container, reported live: one process, SQLite, Docker.

use crate::process::{Standalone, longshore, text};
use serde_json::{Value, json};
use testkit::docker;
use testkit::fixture::{hello, with_dockerfile};
use testkit::git_server::GitServer;
use testkit::{body_of, eventually};

const STEPS: [&str; 7] = [
    "REQUESTED",
    "INITIALIZED",
    "FETCHING",
    "BUILDING",
    "STARTING",
    "VERIFYING",
    "RUNNING",
];

#[tokio::test]
async fn each_step_is_told_once_in_order_and_the_build_log_replays_to_its_end() {
    let git = GitServer::start().await;
    let repository = git.repository("steps", &hello("one"));
    let server = Standalone::start().await;
    let all = "subscription { deploymentStatus { revisionId revision epoch seq status } }";
    let mut statuses = server.api.subscribe(all, json!({})).await;

    let deployment = server.api.create_git("steps", &repository.url).await;
    let id = text(&deployment, "/id");
    let mut seen = Vec::new();
    while seen
        .last()
        .map(|event: &Value| event["status"] != "RUNNING")
        .unwrap_or(true)
    {
        let event = tokio::time::timeout(testkit::PATIENCE, statuses.recv())
            .await
            .expect("in time")
            .expect("open");
        seen.push(event["data"]["deploymentStatus"].clone());
    }
    let told: Vec<&str> = seen.iter().map(|event| text(event, "/status")).collect();
    assert_eq!(told, STEPS);
    let seqs: Vec<i64> = seen
        .iter()
        .map(|event| event["seq"].as_i64().expect("a number"))
        .collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");

    // The same, asked for afterwards.
    let running = server.api.until_status(id, "RUNNING").await;
    let revision = text(&running, "/activeRevision/id");
    let events = server.api.events(revision).await;
    assert_eq!(
        events
            .iter()
            .map(|event| text(event, "/status"))
            .collect::<Vec<_>>(),
        STEPS
    );
    assert_eq!(
        body_of(text(&running, "/url")).await.as_deref(),
        Some("one")
    );
    assert_eq!(running["ports"].as_array().expect("ports").len(), 1);
    assert_eq!(running["ports"][0]["containerPort"], 8000);
    let port = running["ports"][0]["port"].as_i64().expect("a port");
    assert!((3000..=65499).contains(&port));

    // A log that is over replays from its first line and completes.
    let query = "subscription($id: ID!) { buildLog(revisionId: $id) { seq stream text } }";
    let mut log = server.api.subscribe(query, json!({ "id": revision })).await;
    let mut lines = Vec::new();
    while let Some(line) = tokio::time::timeout(testkit::PATIENCE, log.recv())
        .await
        .expect("it completes")
    {
        lines.push(line["data"]["buildLog"].clone());
    }
    let seqs: Vec<i64> = lines
        .iter()
        .map(|line| line["seq"].as_i64().expect("a number"))
        .collect();
    assert_eq!(
        seqs,
        (1..=i64::try_from(lines.len()).expect("few")).collect::<Vec<_>>()
    );
    assert!(
        lines
            .iter()
            .any(|line| text(line, "/text").contains("COPY index.html")),
        "{lines:#?}"
    );
    server.clean_up().await;
}

#[tokio::test]
async fn a_pushed_commit_runs_by_itself_at_the_same_url_without_a_lost_request() {
    let git = GitServer::start().await;
    let repository = git.repository("watched", &hello("one"));
    let server = Standalone::start().await;
    let waited = longshore(
        &server.api.url,
        &[
            "deploy",
            "watched",
            "--git",
            &repository.url,
            "--poll-seconds",
            "5",
            "--wait",
            "--output",
            "json",
        ],
    )
    .await;
    assert_eq!(waited.code, 0, "{waited:?}");
    let deployment = server
        .api
        .data("{ deployment(name: \"watched\") { id url } }", json!({}))
        .await["deployment"]
        .clone();
    let (id, url) = (
        text(&deployment, "/id").to_owned(),
        text(&deployment, "/url").to_owned(),
    );
    assert!(waited.stdout.contains(&url), "{waited:?}");
    assert_eq!(body_of(&url).await.as_deref(), Some("one"));

    let commit = repository.commit("second", &[("index.html", "two")]);
    // Every request from before the push until after the switch is answered by one of the two.
    eventually("the new commit answers", || async {
        let body = body_of(&url)
            .await
            .expect("no request is lost while a revision takes over");
        assert!(body == "one" || body == "two", "{body}");
        (body == "two").then_some(())
    })
    .await;
    let running = server.api.until_latest(&id, 2, "RUNNING").await;
    assert_eq!(text(&running, "/url"), url, "the URL stays");
    assert_eq!(text(&running, "/activeRevision/sourceVersion"), commit);
    // The old revision's container goes away once the new one serves.
    eventually("one container is left", || async {
        (docker::containers(&id).len() == 1).then_some(())
    })
    .await;
    server.clean_up().await;
}

#[tokio::test]
async fn a_killed_server_comes_back_and_nothing_stopped_meanwhile() {
    let git = GitServer::start().await;
    let repository = git.repository("survivor", &hello("one"));
    let mut server = Standalone::start().await;
    let deployment = server.api.create_git("survivor", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let before = server.api.until_status(&id, "RUNNING").await;
    let container = docker::running(&id).pop().expect("one container");
    let started = docker::inspect(&container)["State"]["StartedAt"].clone();

    server.kill().await;
    assert_eq!(
        body_of(text(&before, "/url")).await.as_deref(),
        Some("one"),
        "it answers with the control plane dead"
    );
    server.launch().await;
    let after = server.api.until_status(&id, "RUNNING").await;
    for field in ["/url", "/activeRevision/id"] {
        assert_eq!(text(&after, field), text(&before, field));
    }
    assert_eq!(after["ports"], before["ports"]);
    assert_eq!(docker::running(&id), std::slice::from_ref(&container));
    assert_eq!(docker::inspect(&container)["State"]["StartedAt"], started);
    // And it is still managed.
    repository.commit("second", &[("index.html", "two")]);
    assert!(
        server
            .api
            .act("redeployDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    server.api.until_latest(&id, 2, "RUNNING").await;
    assert_eq!(body_of(text(&before, "/url")).await.as_deref(), Some("two"));

    // A clean stop leaves what runs as it is, too.
    assert!(server.terminate().await.success());
    assert_eq!(body_of(text(&before, "/url")).await.as_deref(), Some("two"));
    server.clean_up().await;
}

#[tokio::test]
async fn destroy_leaves_nothing() {
    let git = GitServer::start().await;
    let repository = git.repository("gone", &hello("one"));
    let server = Standalone::start().await;
    let deployment = server.api.create_git("gone", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let running = server.api.until_status(&id, "RUNNING").await;
    assert!(!docker::leftovers(&id).is_empty());
    assert!(
        directories_naming(&server.data_dir(), &id).len() <= 1,
        "at most one directory of its own"
    );

    assert!(
        server
            .api
            .act("destroyDeployment", &id)
            .await
            .errors
            .is_empty()
    );
    let destroyed = server.api.until_status(&id, "DESTROYED").await;
    assert_eq!(docker::leftovers(&id), Vec::<String>::new());
    assert_eq!(destroyed["ports"], json!([]));
    assert_eq!(
        directories_naming(&server.data_dir(), &id),
        Vec::<String>::new()
    );
    assert_eq!(body_of(text(&running, "/url")).await, None);

    // Twice, and acting on what is gone.
    for mutation in [
        "destroyDeployment",
        "redeployDeployment",
        "stopDeployment",
        "startDeployment",
        "restartDeployment",
    ] {
        assert_eq!(
            server.api.act(mutation, &id).await.code(),
            "CONFLICT",
            "{mutation}"
        );
    }
    // The name is free again.
    let again = server.api.create_git("gone", &repository.url).await;
    server
        .api
        .until_status(text(&again, "/id"), "RUNNING")
        .await;
    server.clean_up().await;
}

fn directories_naming(root: &std::path::Path, id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(id))
            {
                found.push(path.display().to_string());
            } else if path.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn cancel_stops_the_build() {
    let git = GitServer::start().await;
    let marker = format!("sleep 31{}", std::process::id());
    let repository = git.repository(
        "endless",
        &with_dockerfile(&format!("FROM busybox\nRUN echo started && {marker}\n")),
    );
    let server = Standalone::start().await;
    let deployment = server.api.create_git("endless", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    let building = server.api.until_status(&id, "BUILDING").await;
    eventually("the build runs", || async {
        process_runs(&marker).then_some(())
    })
    .await;

    let cancel = "mutation($id: ID!) { cancelRevision(id: $id) { id status } }";
    let revision = text(&building, "/latestRevision/id");
    assert!(
        server
            .api
            .ask(cancel, json!({ "id": revision }))
            .await
            .errors
            .is_empty()
    );
    server.api.until_status(&id, "CANCELLED").await;
    eventually("the build's process is gone", || async {
        (!process_runs(&marker)).then_some(())
    })
    .await;
    assert_eq!(
        server
            .api
            .ask(cancel, json!({ "id": revision }))
            .await
            .code(),
        "CONFLICT"
    );
    server.clean_up().await;
    assert_eq!(docker::leftovers(&id), Vec::<String>::new());
}

fn process_runs(command: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.into_iter().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim() == command
    })
}

#[tokio::test]
async fn a_service_log_begins_with_its_tail_and_goes_on_live() {
    let git = GitServer::start().await;
    let talk = "FROM busybox\nCMD [\"sh\", \"-c\", \"trap 'exit 0' TERM; echo first; (while sleep 1; do echo tick; done) & httpd -f -p 8000 & wait\"]\n";
    let repository = git.repository("talk", &with_dockerfile(talk));
    let server = Standalone::start().await;
    let deployment = server.api.create_git("talk", &repository.url).await;
    let id = text(&deployment, "/id").to_owned();
    server.api.until_status(&id, "RUNNING").await;
    let query =
        "subscription($id: ID!) { serviceLog(deploymentId: $id, tail: 100) { seq stream text } }";
    let mut log = server.api.subscribe(query, json!({ "id": id })).await;
    let mut lines = Vec::new();
    while lines.iter().filter(|line| *line == "tick").count() < 3 {
        let line = tokio::time::timeout(testkit::PATIENCE, log.recv())
            .await
            .expect("in time")
            .expect("open");
        lines.push(text(&line["data"]["serviceLog"], "/text").to_owned());
    }
    assert_eq!(
        lines.first().map(String::as_str),
        Some("first"),
        "{lines:?}"
    );
    server.clean_up().await;
}
