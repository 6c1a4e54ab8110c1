//! Each bad input of the spine ends in its own typed error, and leaves nothing behind.

use crate::process::Standalone;
use serde_json::{Value, json};
use testkit::docker;
use testkit::fixture::{CONFIG, DOCKERFILE, hello, with_dockerfile};
use testkit::git_server::GitServer;

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_before_anything_happens() {
    let git = GitServer::start().await;
    let repository = git.repository("fine", &hello("one"));
    let server = Standalone::start().await;
    let mutation =
        "mutation($input: CreateDeploymentInput!) { createDeployment(input: $input) { id } }";
    let long = "x".repeat(64);
    for name in [
        "",
        " ",
        "Upper",
        "a.b",
        "-a",
        "a-",
        "a b",
        "a/b",
        "..",
        "a\u{0}",
        "é",
        long.as_str(),
    ] {
        let input = json!({ "name": name, "git": { "url": repository.url } });
        assert_eq!(
            server
                .api
                .ask(mutation, json!({ "input": input }))
                .await
                .code(),
            "INVALID_INPUT",
            "{name:?}"
        );
    }
    for url in [
        "",
        "hello",
        "/etc/passwd",
        "file:///etc",
        "ext::sh -c id",
        "git://host/a",
        "-oProxyCommand=id",
        "--upload-pack=id",
        "https://user:hunter2@host/a",
        "https://host/a\nb",
    ] {
        let answer = server
            .api
            .ask(
                mutation,
                json!({ "input": { "name": "a", "git": { "url": url } } }),
            )
            .await;
        assert_eq!(answer.code(), "INVALID_INPUT", "{url:?}: {answer:?}");
        assert!(!format!("{answer:?}").contains("hunter2"));
    }
    for git_ref in ["-x", "a..b", "a b", "a\nb", ""] {
        let input = json!({ "name": "a", "git": { "url": repository.url, "ref": git_ref } });
        assert_eq!(
            server
                .api
                .ask(mutation, json!({ "input": input }))
                .await
                .code(),
            "INVALID_INPUT",
            "{git_ref:?}"
        );
    }
    for sources in [
        json!({ "name": "a" }),
        json!({ "name": "a", "git": { "url": repository.url }, "image": { "ref": "busybox" } }),
    ] {
        assert_eq!(
            server
                .api
                .ask(mutation, json!({ "input": sources }))
                .await
                .code(),
            "INVALID_INPUT"
        );
    }
    let taken =
        json!({ "input": { "name": "taken", "git": { "url": repository.url, "pollSeconds": 0 } } });
    assert!(
        server
            .api
            .ask(mutation, taken.clone())
            .await
            .errors
            .is_empty()
    );
    assert_eq!(server.api.ask(mutation, taken).await.code(), "CONFLICT");

    let nobody = "018f0000-0000-7000-8000-000000000000";
    for id in [nobody, "not-a-uuid", "", "1; drop table deployments"] {
        for mutation in [
            "redeployDeployment",
            "rollbackDeployment",
            "startDeployment",
            "stopDeployment",
            "restartDeployment",
            "destroyDeployment",
        ] {
            assert_eq!(
                server.api.act(mutation, id).await.code(),
                "NOT_FOUND",
                "{mutation} {id:?}"
            );
        }
        let cancel = server
            .api
            .ask(
                "mutation($id: ID!) { cancelRevision(id: $id) { id } }",
                json!({ "id": id }),
            )
            .await;
        assert_eq!(cancel.code(), "NOT_FOUND", "{id:?}");
    }
    server.clean_up().await;
}

/// Deploys these files; gives the failed deployment.
async fn failed(server: &Standalone, git: &GitServer, name: &str, files: &[(&str, &str)]) -> Value {
    let repository = git.repository(name, files);
    let deployment = server.api.create_git(name, &repository.url).await;
    let id = deployment["id"].as_str().expect("an id").to_owned();
    server
        .api
        .until(&id, "the deployment is FAILED", |now| {
            now["status"] == "FAILED"
        })
        .await
}

async fn check(
    server: &Standalone,
    git: &GitServer,
    name: &str,
    files: &[(&str, &str)],
    reason: &str,
    says: &str,
) {
    let failed = failed(server, git, name, files).await;
    assert_eq!(failed["failureReason"], reason, "{name}: {failed:#}");
    let detail = failed["statusDetail"].as_str().unwrap_or("");
    assert!(detail.contains(says), "{name}: {detail}");
    let id = failed["id"].as_str().expect("an id");
    // What was built is kept for a while, so that trying again is quick.
    let left = docker::leftovers(id);
    let left: Vec<_> = left.iter().filter(|it| !it.starts_with("image")).collect();
    assert_eq!(left, Vec::<&String>::new(), "{name}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_deployed_fails_with_its_reason() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let config = |text: &'static str| {
        vec![
            ("Config.toml", text),
            ("Dockerfile", DOCKERFILE),
            ("index.html", "x"),
        ]
    };
    let invalid = [
        ("toml", "[config\n", "Config.toml"),
        (
            "type",
            "[config]\ndockerfile = \"Dockerfile\"\nport = \"8000\"\n",
            "port",
        ),
        (
            "port-zero",
            "[config]\ndockerfile = \"Dockerfile\"\nport = 0\n",
            "port",
        ),
        (
            "port-high",
            "[config]\ndockerfile = \"Dockerfile\"\nport = 70000\n",
            "65535",
        ),
        ("lang", "[config]\nlang = \"cobol\"\nport = 1\n", "python3"),
        ("neither", "[config]\nport = 8000\n", "lang"),
        (
            "both",
            "[config]\nlang = \"node\"\ndockerfile = \"Dockerfile\"\n",
            "dockerfile",
        ),
        (
            "absolute",
            "[config]\ndockerfile = \"/etc/passwd\"\n",
            "dockerfile",
        ),
        (
            "outside",
            "[config]\ndockerfile = \"../Dockerfile\"\n",
            "dockerfile",
        ),
    ];
    for (name, text, says) in invalid {
        check(&server, &git, name, &config(text), "CONFIG_INVALID", says).await;
    }
    check(
        &server,
        &git,
        "no-config",
        &[("README", "x")],
        "CONFIG_MISSING",
        "Config.toml",
    )
    .await;
    check(
        &server,
        &git,
        "no-dockerfile",
        &[("Config.toml", CONFIG)],
        "DOCKERFILE_MISSING",
        "Dockerfile",
    )
    .await;
    let failing = with_dockerfile("FROM busybox\nRUN echo the-reason >&2; exit 7\n");
    check(
        &server,
        &git,
        "failing-build",
        &failing,
        "BUILD_FAILED",
        "7",
    )
    .await;
    let exits =
        with_dockerfile("FROM busybox\nCMD [\"sh\", \"-c\", \"echo last words; exit 9\"]\n");
    check(&server, &git, "exits", &exits, "UNHEALTHY", "last words").await;
    server.clean_up().await;
}

#[tokio::test]
async fn a_dockerfile_that_leads_out_of_the_repository_is_refused() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let repository = git.repository("link", &[("Config.toml", CONFIG), ("index.html", "x")]);
    std::os::unix::fs::symlink("/etc/hostname", repository.work_tree().join("Dockerfile"))
        .expect("a link");
    repository.push("link");
    let deployment = server.api.create_git("link", &repository.url).await;
    let id = deployment["id"].as_str().expect("an id");
    let failed = server
        .api
        .until(id, "the deployment is FAILED", |now| {
            now["status"] == "FAILED"
        })
        .await;
    assert_eq!(failed["failureReason"], "CONFIG_INVALID", "{failed:#}");
    server.clean_up().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_fetched_fails_with_the_servers_words() {
    let git = GitServer::start().await;
    let repository = git.repository("there", &hello("one"));
    let server = Standalone::start().await;
    let elsewhere = repository.url.replace("there", "nowhere");
    let nobody = format!("http://127.0.0.1:{}/a.git", testkit::free_port());
    for (name, url, git_ref, says) in [
        ("no-repository", elsewhere.as_str(), None, "404"),
        (
            "no-ref",
            repository.url.as_str(),
            Some("no-such-branch"),
            "no-such-branch",
        ),
        ("no-host", nobody.as_str(), None, "127.0.0.1"),
    ] {
        let deployment = server
            .api
            .create(
                json!({ "name": name, "git": { "url": url, "ref": git_ref, "pollSeconds": 0 } }),
            )
            .await;
        let id = deployment["id"].as_str().expect("an id");
        let failed = server
            .api
            .until(id, "the deployment is FAILED", |now| {
                now["status"] == "FAILED"
            })
            .await;
        assert_eq!(failed["failureReason"], "FETCH_FAILED", "{failed:#}");
        assert!(
            failed["statusDetail"].as_str().unwrap_or("").contains(says),
            "{failed:#}"
        );
    }
    server.clean_up().await;
}

#[tokio::test]
async fn a_container_that_never_listens_where_it_should_is_unhealthy() {
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let config = "[config]\ndockerfile = \"Dockerfile\"\nport = 8000\n\n[health]\nstart_period = \"1s\"\ninterval = \"1s\"\nretries = 2\n";
    for (name, command) in [("silent", "sleep 1000"), ("elsewhere", "httpd -f -p 8001")] {
        let dockerfile = format!("FROM busybox\nCMD [\"sh\", \"-c\", \"exec {command}\"]\n");
        let files = [("Config.toml", config), ("Dockerfile", dockerfile.as_str())];
        check(&server, &git, name, &files, "UNHEALTHY", "8000").await;
    }
    server.clean_up().await;
}

#[tokio::test]
async fn a_build_beyond_its_time_is_stopped() {
    let git = GitServer::start().await;
    let server = Standalone::start_with(&["--build-timeout", "3s"]).await;
    let endless = with_dockerfile("FROM busybox\nRUN sleep 600\n");
    check(&server, &git, "beyond", &endless, "BUILD_TIMEOUT", "3").await;
    server.clean_up().await;
}

#[tokio::test]
async fn the_api_refuses_what_costs_too_much_and_whoever_has_no_token() {
    let server = Standalone::start().await;
    let deep = format!(
        "{{ nodes {{ name {} }} }}",
        "deployments { nodes { node { ".repeat(12) + &"name } } } ".repeat(12)
    );
    let aliases: String = (0..2000)
        .map(|index| format!("a{index}: nodes {{ id }} "))
        .collect();
    let mut bomb = "fragment f0 on Query { nodes { id } } ".to_owned();
    for index in 1..28 {
        bomb.push_str(&format!(
            "fragment f{index} on Query {{ ...f{0} ...f{0} }} ",
            index - 1
        ));
    }
    let long = format!("{{ nodes {{ id }} }} #{}", "x".repeat(100_000));
    for query in [
        deep,
        format!("{{ {aliases} }}"),
        format!("{{ ...f27 }} {bomb}"),
        long,
    ] {
        let answer = server.api.ask(&query, json!({})).await;
        assert_eq!(answer.code(), "INVALID_INPUT", "{:.80}", query);
    }
    let bare = testkit::client(testkit::PATIENCE)
        .post(format!("{}/graphql", server.api.url))
        .json(&json!({ "query": "{ nodes { id } }" }));
    let refused = bare.send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    server.clean_up().await;
}
