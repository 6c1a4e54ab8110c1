//! Documents that cost more than they look, refused before they cost anything.

use crate::server::{Server, TOKEN, body, code};
use serde_json::json;
use std::fmt::Write;

/// A document whose fragments spread the one before them twice: 1 KiB that would be 2²⁸ fields.
fn doubling(count: usize) -> String {
    let mut document = format!("{{...f{}}}fragment f0 on Query{{nodes{{id}}}}", count - 1);
    for fragment in 1..count {
        write!(
            document,
            "fragment f{fragment} on Query{{...f{0}...f{0}}}",
            fragment - 1
        )
        .unwrap();
    }
    document
}

/// How much a request may cost is counted in the guard's own tests; here each is refused at all,
/// with a code and in few words.
#[tokio::test]
async fn each_is_refused_in_few_words() {
    let server = Server::start().await;
    let cycle = "{...a}fragment a on Query{...b}fragment b on Query{...a}".to_owned();
    let many = |part: &str, count: usize| format!("{{{}}}", part.repeat(count));
    let deep = format!("{}__typename{}", "{nodes".repeat(40), "}".repeat(40));
    for bomb in [
        doubling(28),
        doubling(60),
        cycle,
        deep,
        many("a:nodes{id} ", 10_000),
        many("__typename @skip(if:false) ", 10_000),
        many("__typename ", 10_000),
        many("unknown ", 1_500),
        format!(
            "{{{}}}",
            (0..100)
                .map(|n| format!("a{n}:nope{n} "))
                .collect::<String>()
        ),
        "{".repeat(60_000),
        "[".repeat(60_000),
        format!(
            "{{node(id:{}{}){{id}}}}",
            "[".repeat(30_000),
            "]".repeat(30_000)
        ),
        "{__schema{types{fields{type{fields{type{fields{type{fields{name}}}}}}}}}}".to_owned(),
        "{deployments(first:200){nodes{revisions(first:200){nodes{events{seq}}}}}}".to_owned(),
        format!("{{a(b:\"{}\")}}", "x".repeat(70_000)),
        format!("{{{}(a:1)}}", "x".repeat(60_000)),
    ] {
        let response = server
            .post(&json!({ "query": bomb }))
            .bearer_auth(TOKEN)
            .send()
            .await
            .unwrap();
        let text = response.text().await.unwrap();
        assert!(text.len() <= 4096, "{} bytes for {bomb:.80}", text.len());
        let answer = serde_json::from_str(&text).unwrap();
        assert_eq!(code(&answer), "INVALID_INPUT", "{bomb:.80}: {text}");
    }
}

#[tokio::test]
async fn a_page_is_bounded_and_priced_by_its_size() {
    let server = Server::start().await;
    for first in [
        "0",
        "-1",
        "201",
        "1000000000",
        "2147483648",
        "9223372036854775807",
        "1.5",
        "\"1\"",
    ] {
        let answer = server
            .ask(&format!("{{deployments(first:{first}){{nodes{{id}}}}}}"))
            .await;
        assert_eq!(code(&answer), "INVALID_INPUT", "{first}: {answer}");
    }
    for after in [
        "",
        "x",
        "!!!",
        "MDAwMDAwMDAwMDAwMDAwMA",
        "' OR 1=1 --",
        "\\u0000",
    ] {
        let answer = server
            .ask(&format!(
                "{{deployments(after:\"{after}\"){{nodes{{id}}}}}}"
            ))
            .await;
        assert_eq!(code(&answer), "INVALID_INPUT", "{after}: {answer}");
    }
    let all = "{deployments(first:200){nodes{id name status statusDetail node{name} latestRevision{number status}}}}";
    assert!(server.ask(all).await["data"].is_object());
}

#[tokio::test]
async fn an_archive_is_not_unpacked() {
    let server = Server::start().await;
    let request = server
        .post(&json!({ "query": "{__typename}" }))
        .bearer_auth(TOKEN)
        .header("content-encoding", "gzip");
    // Read as it is: this body happens to be JSON. One that is packed would not be.
    assert_eq!(
        body(request.send().await.unwrap()).await["data"]["__typename"],
        "Query"
    );
}
