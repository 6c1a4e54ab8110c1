//! Git repositories served over smart HTTP by Git's own `http-backend`, so that fetches are what
//! they are against a forge.

use crate::tls::Certificate;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// A server for every repository below one directory.
pub struct GitServer {
    root: tempfile::TempDir,
    /// What the URLs of its repositories begin with.
    base: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One repository: a bare one that is served, and a work tree that pushes to it.
pub struct Repository {
    /// What a deployment is given.
    pub url: String,
    bare: PathBuf,
    work: PathBuf,
}

impl GitServer {
    /// Serves an empty directory on a free port.
    pub async fn start() -> Self {
        let listener = free_listener().await;
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        Self::serve(listener, base)
    }

    /// The same over TLS, as `localhost`, with this certificate.
    pub async fn start_tls(certificate: &Certificate) -> Self {
        let listener = free_listener().await;
        let port = listener.local_addr().expect("an address").port();
        Self::serve(
            certificate.listen(listener),
            format!("https://localhost:{port}"),
        )
    }

    fn serve<L: axum::serve::Listener>(listener: L, base: String) -> Self
    where
        L::Addr: std::fmt::Debug,
    {
        let root = tempfile::tempdir().expect("a directory");
        let app = Router::new()
            .fallback(backend)
            .with_state(root.path().to_owned());
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving Git");
        });
        Self { root, base, task }
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        self.base
            .split_once("://")
            .map_or(self.base.as_str(), |(_, address)| address)
    }

    /// A new repository with one commit of these files.
    pub fn repository(&self, name: &str, files: &[(&str, &str)]) -> Repository {
        let bare = self.root.path().join(format!("{name}.git"));
        let work = self.root.path().join(format!("{name}.work"));
        git(
            self.root.path(),
            &[
                "init",
                "--quiet",
                "--bare",
                "--initial-branch=main",
                bare.to_str().expect("UTF-8"),
            ],
        );
        git(&bare, &["config", "http.receivepack", "false"]);
        git(
            &bare,
            &["config", "uploadpack.allowReachableSHA1InWant", "true"],
        );
        git(
            self.root.path(),
            &[
                "init",
                "--quiet",
                "--initial-branch=main",
                work.to_str().expect("UTF-8"),
            ],
        );
        let repository = Repository {
            url: format!("{}/{name}.git", self.base),
            bare,
            work,
        };
        repository.commit("first", files);
        repository
    }

    /// A new repository with the files of a folder of this project, as they are.
    #[must_use]
    pub fn repository_of(&self, name: &str, folder: &Path) -> Repository {
        let repository = self.repository(name, &[]);
        copy(folder, repository.work_tree());
        repository.push("as in the folder");
        repository
    }
}

async fn free_listener() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
}

impl Repository {
    /// The bare repository that is served.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Writes files, commits and pushes; gives the commit's id.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.work.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(&path, text).expect("a file");
        }
        self.push(message)
    }

    /// Commits what the work tree holds and pushes it.
    pub fn push(&self, message: &str) -> String {
        git(&self.work, &["add", "--all"]);
        git(
            &self.work,
            &["commit", "--quiet", "--allow-empty", "-m", message],
        );
        git(
            &self.work,
            &[
                "push",
                "--quiet",
                self.bare.to_str().expect("UTF-8"),
                "HEAD:main",
            ],
        );
        git(&self.work, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Where files can be changed before [`Repository::push`].
    pub fn work_tree(&self) -> &Path {
        &self.work
    }
}

/// With permissions: scripts stay executable.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.invalid",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git runs");
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// CGI in front of `git http-backend`.
async fn backend(State(root): State<PathBuf>, request: Request) -> Response<Body> {
    match cgi(&root, request).await {
        Ok(response) => response,
        Err(error) => Response::builder()
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .body(Body::from(error.to_string()))
            .expect("a response"),
    }
}

async fn cgi(
    root: &Path,
    request: Request,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await?;
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    stdin.write_all(&body).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let end = output
        .stdout
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or("no header from http-backend")?;
    let mut response = Response::builder().status(StatusCode::OK);
    for line in std::str::from_utf8(&output.stdout[..end])?.lines() {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        if name.eq_ignore_ascii_case("status") {
            response = response.status(
                value
                    .trim()
                    .split(' ')
                    .next()
                    .unwrap_or("500")
                    .parse::<u16>()?,
            );
        } else {
            response = response.header(name, value.trim());
        }
    }
    Ok(response.body(Body::from(output.stdout[end + 4..].to_vec()))?)
}
