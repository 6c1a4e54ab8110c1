//! Running the binary.

use crate::fake::{Fake, Script, TOKEN};
use std::process::Stdio;

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary with an environment of its own.
pub(crate) async fn longshore(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command)
        .await
        .expect("it ends")
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs a client command against a server.
pub(crate) async fn against(fake: &Fake, arguments: &[&str]) -> Output {
    longshore(
        arguments,
        &[("LONGSHORE_URL", &fake.url), ("LONGSHORE_TOKEN", TOKEN)],
    )
    .await
}

#[tokio::test]
async fn without_a_server_it_says_where_it_looked() {
    let nobody = "http://127.0.0.1:1";
    for command in [
        &["node", "list"][..],
        &["deployment", "show", "x"],
        &[
            "deploy",
            "x",
            "--git",
            "https://git.example/x.git",
            "--wait",
        ],
    ] {
        let output = longshore(command, &[("LONGSHORE_URL", nobody)]).await;
        assert_eq!(output.code, Some(6), "{output:?}");
        assert!(
            output.stderr.contains(nobody) && output.stderr.contains("LONGSHORE_URL"),
            "{output:?}"
        );
        assert_eq!(output.stdout, "");
    }
}

#[tokio::test]
async fn without_the_token_it_says_how_to_give_one() {
    let fake = Fake::start(Script::default()).await;
    for variables in [
        &[("LONGSHORE_URL", fake.url.as_str())][..],
        &[("LONGSHORE_URL", &fake.url), ("LONGSHORE_TOKEN", "wrong")],
    ] {
        let output = longshore(&["deployment", "list"], variables).await;
        assert_eq!(output.code, Some(6), "{output:?}");
        assert!(output.stderr.contains("LONGSHORE_TOKEN"), "{output:?}");
    }
    let empty = longshore(
        &["deployment", "list"],
        &[("LONGSHORE_URL", &fake.url), ("LONGSHORE_TOKEN", "")],
    )
    .await;
    assert_eq!(empty.code, Some(1), "{empty:?}");
}

#[tokio::test]
async fn a_token_in_the_home_directory_is_for_this_machine() {
    let fake = Fake::start(Script::default()).await;
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("longshore")).unwrap();
    std::fs::write(
        data.path().join("longshore/admin-token"),
        format!("{TOKEN}\n"),
    )
    .unwrap();
    let data = data.path().to_str().unwrap();
    let output = longshore(
        &["deployment", "list"],
        &[("LONGSHORE_URL", &fake.url), ("XDG_DATA_HOME", data)],
    )
    .await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("app"), "{output:?}");
}

#[tokio::test]
async fn a_list_is_one_json_document() {
    let fake = Fake::start(Script::default()).await;
    let output = against(&fake, &["deployment", "list", "--output", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["status"].as_str()),
        (Some("app"), Some("REQUESTED"))
    );
    let variables = [
        ("LONGSHORE_URL", fake.url.as_str()),
        ("LONGSHORE_TOKEN", TOKEN),
        ("LONGSHORE_OUTPUT", "json"),
    ];
    assert_eq!(
        longshore(&["deployment", "list"], &variables).await.stdout,
        output.stdout
    );
}

#[tokio::test]
async fn mistakes_on_the_command_line_end_with_1() {
    for command in [
        &["deploy", "x"][..],
        &["deployment", "liist"],
        &["deploy", "x", "--git", "u", "--timeout", "soon"],
        &["node"],
    ] {
        let output = longshore(command, &[]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
    }
    let output = longshore(&["deployment", "list", "--url", "localhost:8080"], &[]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(longshore(&["--help"], &[]).await.code, Some(0));
    assert!(
        longshore(&["--version"], &[])
            .await
            .stdout
            .starts_with("longshore 0.")
    );
}

#[tokio::test]
async fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = longshore(&["completions", shell], &[]).await;
        assert!(
            output.code == Some(0) && output.stdout.contains("redeploy"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn an_empty_admin_token_stops_the_start() {
    for role in [
        &["standalone"][..],
        &[
            "orchestrator",
            "--database-url",
            "postgres://nobody@127.0.0.1:1/x",
            "--amqp-url",
            "amqp://127.0.0.1:1",
        ],
    ] {
        let output = longshore(role, &[("LONGSHORE_ADMIN_TOKEN", " ")]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("empty"), "{output:?}");
    }
    let without = longshore(
        &[
            "orchestrator",
            "--database-url",
            "postgres://x",
            "--amqp-url",
            "amqp://127.0.0.1:1",
        ],
        &[],
    )
    .await;
    assert!(
        without.code == Some(1) && without.stderr.contains("LONGSHORE_ADMIN_TOKEN"),
        "{without:?}"
    );
}

#[tokio::test]
async fn a_file_that_lies_around_may_not_send_the_token_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("longshore.toml"),
        "url = 'http://evil.example'",
    )
    .unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["deployment", "list"])
        .current_dir(directory.path())
        .env("LONGSHORE_TOKEN", TOKEN)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--config"),
        "{output:?}"
    );
}
