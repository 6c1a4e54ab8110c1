//! Every argument with what it should not be: a code and the field, never an internal error.

use crate::server::{Server, code};
use serde_json::{Value, json};

/// Texts that have broken other systems.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "-a",
        "a\u{0}b",
        "a\nb",
        "\u{1b}[31m",
        "\u{202e}abc",
        "a\u{200b}b",
        "café",
        "ＡＢＣ",
        "Upper",
        "' OR 1=1 --",
        "${x}",
        "%s%n",
        "🦀",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(300));
    texts.push("x".repeat(200_000));
    texts
}

/// Numbers at the edges, and beyond what GraphQL's Int holds.
fn numbers() -> Vec<Value> {
    vec![
        json!(-1),
        json!(i32::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e30),
        json!(0.5),
        json!("1"),
        json!(true),
        json!([]),
    ]
}

async fn create(server: &Server, input: Value) -> Value {
    server
        .ask_with(
            "mutation($i: CreateDeploymentInput!){createDeployment(input:$i){id}}",
            json!({ "i": input }),
        )
        .await
}

#[tokio::test]
async fn a_deployment_that_is_not_right_is_not_made() {
    let server = Server::start().await;
    let git = json!({ "url": "https://git.example/app.git" });
    let with = |key: &str, value: &Value| {
        let mut input = json!({ "name": "right", "git": git });
        input[key] = value.clone();
        input
    };
    let mut wrong: Vec<Value> = vec![
        json!({}),
        json!(null),
        json!({ "name": "no-source" }),
        json!({ "name": "x", "git": null }),
    ];
    wrong.push(json!({ "name": "two", "git": git, "image": { "ref": "busybox" } }));
    for text in texts() {
        wrong.push(with("name", &json!(text)));
        wrong.push(with("git", &json!({ "url": text })));
        wrong.push(with(
            "git",
            &json!({ "url": "https://git.example/a.git", "subdir": format!("/{text}") }),
        ));
        wrong.push(with(
            "git",
            &json!({ "url": "https://git.example/a.git", "ref": format!("{text} x") }),
        ));
        wrong.push(with(
            "labels",
            &json!([{ "key": format!("-{text}"), "value": "" }]),
        ));
        wrong.push(with(
            "labels",
            &json!([{ "key": "a", "value": format!("{text}\u{0}") }]),
        ));
        wrong.push(with("node", &json!(format!("{text}_"))));
        wrong.push(with("method", &json!(text)));
        wrong.push(json!({ "name": "right", "image": { "ref": format!("-{text}") } }));
    }
    for number in numbers() {
        wrong.push(with(
            "git",
            &json!({ "url": "https://git.example/a.git", "pollSeconds": number }),
        ));
        wrong.push(json!({ "name": "right", "image": { "ref": "busybox", "port": number } }));
    }
    wrong.push(json!({ "name": "right", "image": { "ref": "busybox", "port": 0 } }));
    wrong.push(json!({ "name": "right", "image": { "ref": "busybox", "port": 70_000 } }));
    for url in [
        "file:///etc",
        "ext::sh -c true",
        "-u",
        "https://user:pass@git.example/a.git",
        "https://git.example/a\n.git",
        "https://git.example",
        "nonsense",
    ] {
        wrong.push(with("git", &json!({ "url": url })));
    }
    for input in wrong {
        let answer = create(&server, input.clone()).await;
        assert_eq!(
            code(&answer),
            "INVALID_INPUT",
            "{:.200}: {answer:.300}",
            input.to_string()
        );
    }
    assert_eq!(
        server.ask("{deployments{nodes{name}}}").await["data"]["deployments"]["nodes"],
        json!([])
    );
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let server = Server::start().await;
    server.create("taken").await;
    let answer = create(
        &server,
        json!({ "name": "taken", "git": { "url": "https://git.example/b.git" } }),
    )
    .await;
    assert_eq!(code(&answer), "CONFLICT");
}

#[tokio::test]
async fn an_id_that_names_nothing_is_not_found() {
    let server = Server::start().await;
    let deployment = server.create("some").await;
    let unknown = uuid::Uuid::now_v7().to_string();
    let revision = server
        .ask(&format!(
            "{{deployment(id:\"{deployment}\"){{latestRevision{{id}}}}}}"
        ))
        .await;
    let revision = revision["data"]["deployment"]["latestRevision"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut ids = texts();
    ids.extend([
        unknown,
        "00000000-0000-0000-0000-000000000000".to_owned(),
        format!("{deployment}'"),
    ]);
    for (field, other) in [
        ("query($id:ID!){r:deployment(id:$id){id}}", &revision),
        ("query($id:ID!){r:revision(id:$id){id}}", &deployment),
        ("query($id:ID!){r:node(id:$id){id}}", &deployment),
        (
            "mutation($id:ID!){r:redeployDeployment(id:$id){id}}",
            &revision,
        ),
        (
            "mutation($id:ID!){r:rollbackDeployment(id:$id){id}}",
            &revision,
        ),
        (
            "mutation($id:ID!){r:startDeployment(id:$id){id}}",
            &revision,
        ),
        ("mutation($id:ID!){r:stopDeployment(id:$id){id}}", &revision),
        (
            "mutation($id:ID!){r:restartDeployment(id:$id){id}}",
            &revision,
        ),
        (
            "mutation($id:ID!){r:destroyDeployment(id:$id){id}}",
            &revision,
        ),
        (
            "mutation($id:ID!){r:cancelRevision(id:$id){id}}",
            &deployment,
        ),
    ] {
        for id in ids.iter().chain([other]) {
            let answer = server.ask_with(field, json!({ "id": id })).await;
            assert_eq!(
                code(&answer),
                "NOT_FOUND",
                "{field} {id:.50}: {answer:.300}"
            );
        }
    }
    for name in texts() {
        for field in [
            "query($n:String){deployment(name:$n){id}}",
            "query($n:String){node(name:$n){id}}",
        ] {
            let answer = server.ask_with(field, json!({ "n": name })).await;
            assert_eq!(code(&answer), "NOT_FOUND", "{field} {name:.50}");
        }
    }
    for query in [
        "{deployment{id}}",
        "{node{id}}",
        "{deployment(id:\"a\",name:\"b\"){id}}",
    ] {
        assert_eq!(code(&server.ask(query).await), "INVALID_INPUT", "{query}");
    }
}

#[tokio::test]
async fn what_a_list_is_filtered_by_is_checked() {
    let server = Server::start().await;
    server.create("one").await;
    let list = "query($f: DeploymentFilter){deployments(filter:$f){nodes{name}}}";
    for text in texts().into_iter().filter(|text| !text.is_empty()) {
        for filter in [
            json!({ "namePrefix": format!("{text}_") }),
            json!({ "node": format!("{text}_") }),
            json!({ "label": { "key": format!("-{text}") } }),
        ] {
            let answer = server.ask_with(list, json!({ "f": filter })).await;
            assert_eq!(
                code(&answer),
                "INVALID_INPUT",
                "{:.100}",
                filter.to_string()
            );
        }
    }
    for (filter, found) in [
        (json!(null), 1),
        (json!({}), 1),
        (json!({ "namePrefix": "on" }), 1),
        (json!({ "namePrefix": "two" }), 0),
        (json!({ "status": "REQUESTED" }), 1),
        (json!({ "status": ["RUNNING", "FAILED", "RUNNING"] }), 0),
        (json!({ "node": "none" }), 0),
        (json!({ "label": [{ "key": "a" }] }), 0),
    ] {
        let answer = server.ask_with(list, json!({ "f": filter })).await;
        let nodes = answer["data"]["deployments"]["nodes"]
            .as_array()
            .unwrap_or_else(|| panic!("{filter}: {answer}"));
        assert_eq!(nodes.len(), found, "{filter}");
    }
}

#[tokio::test]
async fn what_is_asked_of_a_deployment_is_checked() {
    let server = Server::start().await;
    let id = server.create("app").await;
    for text in texts() {
        let answer = server
            .ask_with(
                "mutation($i:ID!,$r:String){redeployDeployment(id:$i,ref:$r){id}}",
                json!({ "i": id, "r": format!("-{text}") }),
            )
            .await;
        assert_eq!(code(&answer), "INVALID_INPUT", "{text:.50}: {answer:.300}");
    }
    for number in numbers() {
        let answer = server
            .ask_with(
                "mutation($i:ID!,$r:Int){rollbackDeployment(id:$i,toRevision:$r){id}}",
                json!({ "i": id, "r": number }),
            )
            .await;
        assert!(
            ["INVALID_INPUT", "NOT_FOUND", "CONFLICT"].contains(&code(&answer)),
            "{number}: {answer}"
        );
    }
    for mutation in ["startDeployment", "stopDeployment", "restartDeployment"] {
        let document =
            format!("mutation($i:ID!,$s:[String!]){{{mutation}(id:$i,services:$s){{id}}}}");
        let nothing = server
            .ask_with(&document, json!({ "i": id, "s": [] }))
            .await;
        assert_eq!(
            code(&nothing),
            "INVALID_INPUT",
            "no way to say all: {nothing}"
        );
        for text in texts() {
            let answer = server
                .ask_with(&document, json!({ "i": id, "s": [text] }))
                .await;
            assert!(
                ["INVALID_INPUT", "CONFLICT"].contains(&code(&answer)),
                "{mutation} {text:.50}: {answer:.300}"
            );
        }
    }
    let destroy = format!("mutation{{destroyDeployment(id:\"{id}\"){{id desiredState}}}}");
    assert_eq!(
        server.ask(&destroy).await["data"]["destroyDeployment"]["desiredState"],
        "DESTROYED"
    );
    assert_eq!(code(&server.ask(&destroy).await), "CONFLICT");
    assert_eq!(
        code(
            &server
                .ask(&format!(
                    "mutation{{redeployDeployment(id:\"{id}\"){{id}}}}"
                ))
                .await
        ),
        "CONFLICT"
    );
}
