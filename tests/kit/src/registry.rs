//! Debian's own image registry, on a free port: what `docker push` and `docker pull` speak to. On the
//! loopback the engine asks for no certificate.

use crate::daemon::Daemon;
use crate::docker::docker;
use crate::fixture::DOCKERFILE;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A registry, empty at first.
pub struct Registry {
    directory: tempfile::TempDir,
    port: u16,
    _process: Daemon,
}

impl Registry {
    /// Starts it.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = crate::free_port();
        let config = format!(
            "version: 0.1\nlog: {{ level: warn, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
            directory.path().join("images").display()
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self {
            _process: Daemon::start(&mut command),
            directory,
            port,
        };
        let client = crate::client(Duration::from_secs(1));
        let url = format!("http://127.0.0.1:{port}/v2/");
        crate::eventually("the registry answers", || crate::ask(&client, &url)).await;
        registry
    }

    /// Pushes an image that answers `page` under a `name:tag`, and has the engine forget it; gives its
    /// reference.
    pub fn push(&self, name: &str, page: &str) -> String {
        let image = format!("127.0.0.1:{}/{name}", self.port);
        let context = self.directory.path().join("context");
        std::fs::create_dir_all(&context).expect("a directory");
        std::fs::write(context.join("Dockerfile"), DOCKERFILE).expect("a file");
        std::fs::write(context.join("index.html"), page).expect("a file");
        let context = context.to_str().expect("a path in UTF-8");
        docker(&["build", "--quiet", "--tag", &image, context]);
        docker(&["push", "--quiet", &image]);
        docker(&["rmi", "--force", &image]);
        image
    }
}
