//! OpenSSH's own server, on a free port, with keys of its own: what a forge speaks.

use crate::daemon::Daemon;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A server that lets its one client key in.
pub struct SshServer {
    directory: tempfile::TempDir,
    port: u16,
    _process: Daemon,
}

impl SshServer {
    /// Starts it.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for key in ["host", "client"] {
            keygen(&at(key));
        }
        std::fs::copy(at("client.pub"), at("authorized")).expect("a key");
        let port = crate::free_port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            host = at("host").display(),
            keys = at("authorized").display(),
        );
        std::fs::write(at("config"), config).expect("a file");
        // Where sshd drops its rights; Debian makes it when the service is started.
        std::fs::create_dir_all("/run/sshd").expect("a directory");
        // It insists on being called by its whole path.
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(at("config"));
        command.stderr(Stdio::null());
        let server = Self {
            _process: Daemon::start(&mut command),
            directory,
            port,
        };
        crate::eventually("the SSH server listens", || async {
            let connect = tokio::net::TcpStream::connect(("127.0.0.1", port));
            tokio::time::timeout(Duration::from_secs(1), connect)
                .await
                .ok()?
                .ok()
        })
        .await;
        server
    }

    /// What a client is given for a path on this machine.
    #[must_use]
    pub fn url(&self, path: &Path) -> String {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, path.display())
    }

    /// The private key that it lets in.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.directory.path().join("client")
    }

    /// A known_hosts file that knows it, by the key of this name: `host`, or `client` for a wrong one.
    #[must_use]
    pub fn known_hosts(&self, key: &str) -> PathBuf {
        let public = self.directory.path().join(format!("{key}.pub"));
        let public = std::fs::read_to_string(public).expect("a key");
        let file = self.directory.path().join(format!("known_hosts.{key}"));
        std::fs::write(&file, format!("[127.0.0.1]:{} {public}", self.port)).expect("a file");
        file
    }
}

fn keygen(file: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .status()
        .expect("ssh-keygen runs");
    assert!(made.success(), "no key was made");
}
