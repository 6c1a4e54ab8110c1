//! What may be asked of nodes and about dead letters, by ids that are right and wrong.

use crate::server::{Server, code};
use serde_json::{Value, json};

/// The mutations that take a node, and those that take a dead letter.
const MUTATIONS: [&str; 6] = [
    "cordonNode",
    "uncordonNode",
    "drainNode",
    "removeNode",
    "retryDeadLetter",
    "dropDeadLetter",
];

#[tokio::test]
async fn what_names_nothing_is_not_found() {
    let server = Server::start().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    for id in [&*unknown, "", "n1", "a\u{0}b", "' OR 1=1 --"] {
        for mutation in MUTATIONS {
            let query = format!("mutation($id: ID!){{{mutation}(id: $id){{id}}}}");
            let answer = server.ask_with(&query, json!({ "id": id })).await;
            assert_eq!(code(&answer), "NOT_FOUND", "{mutation}({id:?}): {answer}");
        }
        let query = "query($id: ID!){deadLetter(id: $id){id}}";
        let answer = server.ask_with(query, json!({ "id": id })).await;
        assert_eq!(code(&answer), "NOT_FOUND", "{answer}");
        assert_eq!(answer["data"]["deadLetter"], Value::Null);
    }
}

#[tokio::test]
async fn bodies_are_not_asked_for_by_the_page() {
    let server = Server::start().await;
    let page = server
        .ask("{deadLetters{nodes{id reason}pageInfo{hasNextPage}}}")
        .await;
    assert_eq!(page["data"]["deadLetters"]["nodes"], json!([]), "{page}");
    let large = server.ask("{deadLetters{nodes{body}}}").await;
    assert_eq!(code(&large), "INVALID_INPUT", "{large}");
    let small = server.ask("{deadLetters(first:1){nodes{body}}}").await;
    assert_eq!(small["data"]["deadLetters"]["nodes"], json!([]), "{small}");
    for (argument, field) in [
        ("first:0", "first"),
        ("first:201", "first"),
        ("after:\"x\"", "after"),
    ] {
        let refused = server
            .ask(&format!("{{deadLetters({argument}){{nodes{{id}}}}}}"))
            .await;
        assert_eq!(code(&refused), "INVALID_INPUT", "{field}: {refused}");
    }
}

#[tokio::test]
async fn a_deadline_is_a_number_of_seconds() {
    let server = Server::start().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    let query = "mutation($id: ID!, $s: Int!){drainNode(id: $id, deadlineSeconds: $s){id}}";
    for seconds in [
        json!(0),
        json!(-5),
        json!(604_801),
        json!("1h"),
        json!(1e12),
    ] {
        let answer = server
            .ask_with(query, json!({ "id": unknown, "s": seconds }))
            .await;
        assert_eq!(code(&answer), "INVALID_INPUT", "{seconds}: {answer}");
    }
}
