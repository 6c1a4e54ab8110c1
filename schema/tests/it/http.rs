//! GraphQL over HTTP, by the specification.

use crate::server::{Server, TOKEN, body, code};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

const NEW: &str = "application/graphql-response+json";
const OLD: &str = "application/json";
const QUERY: &str = "{__typename}";
const CREATE: &str =
    "mutation{createDeployment(input:{name:\"x\",git:{url:\"https://git.example/x.git\"}}){id}}";

fn content_type(response: &Response) -> &str {
    response.headers()[header::CONTENT_TYPE].to_str().unwrap()
}

/// What is answered to a body, accepting a media type.
async fn post(server: &Server, accept: &str, sent: impl Into<reqwest::Body>) -> Response {
    let request = server
        .client
        .post(server.url("/graphql"))
        .bearer_auth(TOKEN);
    request
        .header("accept", accept)
        .header("content-type", OLD)
        .body(sent)
        .send()
        .await
        .unwrap()
}

async fn get(server: &Server, query: &str) -> Response {
    server
        .client
        .get(server.url(&format!("/graphql?{query}")))
        .bearer_auth(TOKEN)
        .header("accept", NEW)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_query_is_answered_in_the_type_that_is_read() {
    let server = Server::start().await;
    for (accept, wanted) in [
        (NEW, NEW),
        (OLD, OLD),
        ("*/*", OLD),
        ("application/json, application/graphql-response+json", NEW),
    ] {
        let response = post(&server, accept, json!({ "query": QUERY }).to_string()).await;
        assert_eq!(response.status(), 200);
        assert!(
            content_type(&response).starts_with(wanted),
            "{accept}: {}",
            content_type(&response)
        );
        assert_eq!(
            body(response).await,
            json!({ "data": { "__typename": "Query" } })
        );
    }
    let response = post(&server, "text/html", json!({ "query": QUERY }).to_string()).await;
    assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn what_is_not_executed_has_no_data() {
    let server = Server::start().await;
    for query in [
        "{",
        "{nothing}",
        "query($x:ID!){node(id:$x){id}}",
        "query A{nodes{id}} query B{nodes{id}}",
        "subscription{nodeStatus{id}}",
    ] {
        for (accept, status) in [(NEW, 400), (OLD, 200)] {
            let response = post(&server, accept, json!({ "query": query }).to_string()).await;
            assert_eq!(response.status(), status, "{query}");
            let answer = body(response).await;
            assert!(answer.get("data").is_none(), "{answer}");
            assert_eq!(code(&answer), "INVALID_INPUT", "{answer}");
        }
    }
    // Executed with errors: the data stands beside them.
    let response = post(
        &server,
        NEW,
        json!({ "query": "{node(name:\"none\"){id}}" }).to_string(),
    )
    .await;
    assert_eq!(response.status(), 200);
    let answer = body(response).await;
    assert_eq!(
        (&answer["data"], code(&answer)),
        (&json!({ "node": null }), "NOT_FOUND")
    );
}

#[tokio::test]
async fn what_is_not_a_request_is_a_bad_request() {
    let server = Server::start().await;
    for accept in [NEW, OLD] {
        for sent in [
            "",
            "{",
            "null",
            "[]",
            "[{\"query\":\"{__typename}\"}]",
            "{}",
            "{\"query\":1}",
            "{\"query\":[]}",
            "{\"query\":\"{__typename}\",\"variables\":[]}",
            "{\"query\":\"{__typename}\",\"variables\":\"x\"}",
            "{\"query\":\"{__typename}\",\"operationName\":{}}",
            "{\"query\":\"{__typename}\",\"extensions\":1}",
            "{\"query\":\"\\ud800\"}",
        ] {
            let response = post(&server, accept, sent).await;
            assert_eq!(response.status(), 400, "{sent}");
            assert_eq!(code(&body(response).await), "INVALID_INPUT", "{sent}");
        }
    }
    for query in [
        "",
        "variables=%7B%7D",
        "query=%7B__typename%7D&variables=1",
        "query=%7B__typename%7D&extensions=%5B%5D",
    ] {
        assert_eq!(get(&server, query).await.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn only_json_is_read_and_a_mutation_never_by_get() {
    let server = Server::start().await;
    let sent = json!({ "query": CREATE }).to_string();
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "",
    ] {
        let request = server
            .client
            .post(server.url("/graphql"))
            .bearer_auth(TOKEN)
            .header("content-type", media)
            .body(sent.clone());
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{media}"
        );
    }
    let request = server
        .client
        .post(server.url("/graphql"))
        .bearer_auth(TOKEN)
        .body(sent);
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    let encoded: String = CREATE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for query in [
        format!("query={encoded}"),
        format!(
            "query=query%20A%7B__typename%7D%20{}&operationName=M",
            encoded.replace("%7B%63", "%20%4D%7B%63")
        ),
    ] {
        let response = get(&server, &query).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{query}");
        assert_eq!(response.headers()[header::ALLOW], "POST");
    }
    assert_eq!(get(&server, "query=%7B__typename%7D").await.status(), 200);
    for method in [
        reqwest::Method::PUT,
        reqwest::Method::DELETE,
        reqwest::Method::PATCH,
        reqwest::Method::OPTIONS,
    ] {
        let request = server
            .client
            .request(method.clone(), server.url("/graphql"))
            .bearer_auth(TOKEN);
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::METHOD_NOT_ALLOWED,
            "{method}"
        );
    }
    // None of them did anything.
    assert_eq!(
        server.ask("{deployments{nodes{name}}}").await["data"]["deployments"]["nodes"],
        json!([])
    );
}

#[tokio::test]
async fn a_large_body_is_refused_however_it_comes() {
    let server = Server::start().await;
    let large = format!("{{\"query\":\"{}\"}}", "x".repeat(300 * 1024));
    let response = post(&server, NEW, large.clone()).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(code(&body(response).await), "INVALID_INPUT");
    // Without a length, as chunks.
    let chunks = futures::stream::iter((0..400).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024])));
    let response = post(&server, NEW, reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let server = Server::start().await;
    for path in ["/healthz", "/graphiql", "/nothing", "/graphql"] {
        let response = server.client.get(server.url(path)).send().await.unwrap();
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.headers()[name], value, "{path}");
        }
        assert!(
            response
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY),
            "{path}"
        );
        assert!(
            !response
                .headers()
                .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
            "{path}"
        );
    }
    let missing = server
        .client
        .get(server.url("/nothing"))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    let answer: Value = body(missing).await;
    assert_eq!(code(&answer), "NOT_FOUND");
}
