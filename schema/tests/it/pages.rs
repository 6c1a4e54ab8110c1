//! The page for trying the API.

use crate::server::Server;
use reqwest::header;

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let server = Server::start().await;
    let page = server
        .client
        .get(server.url("/graphiql"))
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self';"),
        "{policy}"
    );
    let text = page.text().await.unwrap();
    assert!(
        !text.contains("http://") && !text.contains("https://") && !text.contains("onclick"),
        "{text}"
    );
    let parts: Vec<&str> = text
        .split('"')
        .filter(|part| part.starts_with("/graphiql/"))
        .collect();
    assert_eq!(parts.len(), 7, "{parts:?}");
    for part in parts {
        assert!(
            text.contains(&format!("src=\"{part}\"></script>")) || part.ends_with(".css"),
            "a script inside the page: {part}"
        );
        let file = server.client.get(server.url(part)).send().await.unwrap();
        assert_eq!(file.status(), 200, "{part}");
        let wanted = if part.ends_with(".css") {
            "text/css"
        } else {
            "text/javascript"
        };
        assert!(
            file.headers()[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with(wanted),
            "{part}"
        );
        let tag = file.headers()[header::ETAG].clone();
        let again = server
            .client
            .get(server.url(part))
            .header(header::IF_NONE_MATCH, tag)
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304, "{part}");
    }
}

#[tokio::test]
async fn no_other_file_is_served() {
    let server = Server::start().await;
    for path in [
        "README.md",
        "..%2fsrc%2flib.rs",
        "%2e%2e%2fCargo.toml",
        "licences%2freact.txt",
        "x",
    ] {
        let response = server
            .client
            .get(server.url(&format!("/graphiql/{path}")))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
}
