//! Every way in, with no token, a wrong one and the right one.

use crate::server::{Server, TOKEN, body, code};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use serde_json::{Value, json};

/// Every operation of the schema as a document, with some value for each argument.
fn operations() -> Vec<String> {
    let document = parse_schema(schema::sdl()).unwrap();
    let mut operations = Vec::new();
    for definition in document.definitions {
        let TypeSystemDefinition::Type(found) = definition else {
            continue;
        };
        let kind = match found.node.name.node.as_str() {
            "Query" => "query",
            "Mutation" => "mutation",
            "Subscription" => "subscription",
            _ => continue,
        };
        let TypeKind::Object(object) = found.node.kind else {
            panic!("a root is an object")
        };
        for field in object.fields {
            let arguments = field.node.arguments.iter().map(|argument| {
                let value = match argument.node.ty.node.to_string().as_str() {
                    "CreateDeploymentInput!" => {
                        "{name:\"x\",git:{url:\"https://git.example/x.git\"}}"
                    }
                    "ID!" | "ID" | "String" => "\"019a0000-0000-7000-8000-000000000000\"",
                    _ => "null",
                };
                format!("{}:{value}", argument.node.name.node)
            });
            let arguments = arguments
                .filter(|argument| !argument.ends_with(":null"))
                .collect::<Vec<_>>()
                .join(",");
            let arguments = if arguments.is_empty() {
                arguments
            } else {
                format!("({arguments})")
            };
            operations.push(format!(
                "{kind}{{{}{arguments}{{__typename}}}}",
                field.node.name.node
            ));
        }
    }
    assert!(operations.len() >= 17, "{operations:?}");
    operations
}

#[tokio::test]
async fn no_operation_is_open_without_the_token() {
    let server = Server::start().await;
    for operation in operations() {
        for token in [None, Some(""), Some("wrong"), Some(&TOKEN[1..])] {
            let mut request = server.post(&json!({ "query": operation }));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{operation} with {token:?}");
            assert!(response.headers().contains_key("www-authenticate"));
            let answer = body(response).await;
            assert_eq!(code(&answer), "UNAUTHENTICATED");
            assert!(answer.get("data").is_none());
        }
        // The same with the token is never a question of who asks.
        assert_ne!(
            code(&server.ask(&operation).await),
            "UNAUTHENTICATED",
            "{operation}"
        );
    }
}

#[tokio::test]
async fn a_token_in_the_url_opens_nothing() {
    let server = Server::start().await;
    for query in [
        format!("token={TOKEN}"),
        format!("access_token={TOKEN}"),
        format!("Authorization=Bearer%20{TOKEN}"),
    ] {
        let url = server.url(&format!("/graphql?query=%7B__typename%7D&{query}"));
        assert_eq!(server.client.get(url).send().await.unwrap().status(), 401);
    }
    let url = format!(
        "http://admin:{TOKEN}@{}/graphql?query=%7B__typename%7D",
        server.address
    );
    assert_eq!(server.client.get(url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_token_is_asked_for_before_anything_is_read() {
    let server = Server::start().await;
    let request = || server.client.post(server.url("/graphql"));
    for request in [
        request().body("not JSON"),
        request().header("content-type", "text/plain").body("x"),
        request()
            .header("content-type", "application/json")
            .body("{}"),
        request()
            .header("authorization", "Bearer ".to_owned() + &"x".repeat(20_000))
            .body("{}"),
        request()
            .bearer_auth(TOKEN)
            .header("authorization", "Bearer other")
            .body("{}"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn health_is_open_and_figures_are_not() {
    let server = Server::start().await;
    let get = async |path: &str| server.client.get(server.url(path)).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    let ready = get("/readyz").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(
        body(ready).await,
        json!({ "ready": true, "database": "up", "bus": "up" })
    );
    assert_eq!(get("/metrics").await.status(), 401);
    let figures = server
        .client
        .get(server.url("/metrics"))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(figures.status(), 200);
    assert!(
        figures.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
}

#[tokio::test]
async fn who_is_signed_in_may_ask_for_the_schema() {
    let server = Server::start().await;
    let answer: Value = server.ask(include_str!("introspection.graphql")).await;
    let types = answer["data"]["__schema"]["types"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert!(types.iter().any(|found| found["name"] == "Deployment"));
}
