//! The management interface of a test broker: plain HTTP, one request a connection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Management {
    address: String,
    credentials: String,
}

impl Management {
    pub(super) fn new(url: &str) -> Self {
        let url = url::Url::parse(url).unwrap();
        let credentials = format!("{}:{}", url.username(), url.password().unwrap());
        Self {
            address: format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()),
            credentials: STANDARD.encode(credentials),
        }
    }

    pub(super) async fn get(&self, path: &str) -> serde_json::Value {
        self.request("GET", path, "").await
    }

    /// Creates; a permission on everything where the path names permissions.
    pub(super) async fn put(&self, path: &str) {
        self.request(
            "PUT",
            path,
            r#"{"configure":".*","write":".*","read":".*"}"#,
        )
        .await;
    }

    pub(super) async fn delete(&self, path: &str) {
        self.request("DELETE", path, "").await;
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.credentials,
            body.len(),
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        // A connection that was just deleted by somebody else is gone, which is what was wanted.
        assert!(
            status < 300 || (method == "DELETE" && status == 404),
            "{method} {path}: {head}\n{body}"
        );
        serde_json::from_str(body).unwrap_or(serde_json::Value::Null)
    }
}
