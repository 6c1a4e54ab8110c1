//! The connection to the engine: made when it is first needed, with a time limit on every call.

use super::error::EngineError;
use super::info::EngineInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Where an engine listens when nothing else is said.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// For calls that only look something up.
pub(super) const QUICK: Duration = Duration::from_secs(15);
/// For calls that make or remove something.
pub(super) const SLOW: Duration = Duration::from_secs(60);

/// A container engine. Clones share one connection state; nothing is sent before the first call.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    host: EngineHost,
    /// The client, once the engine has said which API version it speaks.
    client: Mutex<Option<Docker>>,
    /// What it said of itself, as long as it answers.
    info: Mutex<Option<EngineInfo>>,
    /// Held while a subnet is chosen and its network made.
    networks: Mutex<()>,
    builder_memory: super::build::BuilderMemory,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EngineHost {
    Socket(PathBuf),
    Tcp(String),
}

impl EngineHost {
    fn parse(text: &str) -> Result<Self, EngineError> {
        if let Some(path) = text
            .strip_prefix("unix://")
            .filter(|path| path.starts_with('/'))
        {
            return Ok(Self::Socket(path.into()));
        }
        if let Some(address) = text
            .strip_prefix("tcp://")
            .filter(|address| !address.is_empty())
        {
            return Ok(Self::Tcp(address.trim_end_matches('/').to_owned()));
        }
        Err(EngineError::Refused {
            doing: "reading the engine's address",
            status: 0,
            message: format!(
                "`{}` is not an engine's address: give unix:///path/to/docker.sock or tcp://host:port",
                shared::name::shown(text)
            ),
        })
    }
}

impl Engine {
    /// An engine at `docker_host` (`unix:///path` or `tcp://host:port`); without one at the
    /// address in the environment's `DOCKER_HOST`, else at the usual socket. Does not connect.
    ///
    /// # Errors
    /// [`EngineError::Refused`] for an address of another form.
    pub fn new(docker_host: Option<String>) -> Result<Self, EngineError> {
        let from_environment = || {
            std::env::var("DOCKER_HOST")
                .ok()
                .filter(|host| !host.is_empty())
        };
        let host = docker_host
            .or_else(from_environment)
            .unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let inner = Inner {
            host: EngineHost::parse(&host)?,
            client: Mutex::new(None),
            info: Mutex::new(None),
            networks: Mutex::new(()),
            builder_memory: super::build::BuilderMemory::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether the engine is reached through a socket of this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.inner.host, EngineHost::Socket(_))
    }

    pub(super) async fn remember(&self, info: EngineInfo) {
        self.inner.info.lock().await.replace(info);
    }

    pub(super) async fn remembered(&self) -> Option<EngineInfo> {
        self.inner.info.lock().await.clone()
    }

    pub(super) fn networks(&self) -> &Mutex<()> {
        &self.inner.networks
    }

    pub(super) fn builder_memory(&self) -> &super::build::BuilderMemory {
        &self.inner.builder_memory
    }

    /// One request with its time limit.
    pub(super) async fn call<T, F, Fut>(
        &self,
        doing: &'static str,
        limit: Duration,
        request: F,
    ) -> Result<T, EngineError>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let docker = self.docker(doing).await?;
        let asked = std::time::Instant::now();
        let answer = tokio::time::timeout(limit, request(docker.with_timeout(limit))).await;
        tracing::trace!(doing, took = ?asked.elapsed(), "the engine was asked");
        let result = match answer {
            Ok(answer) => answer.map_err(|error| EngineError::from_client(doing, error)),
            Err(_) => Err(EngineError::Timeout { doing }),
        };
        if matches!(result, Err(EngineError::Unavailable { .. })) {
            // The next engine on this address may be another version.
            self.inner.client.lock().await.take();
            self.inner.info.lock().await.take();
        }
        result
    }

    /// The client, after agreeing with the engine on an API version.
    pub(super) async fn docker(&self, doing: &'static str) -> Result<Docker, EngineError> {
        let mut client = self.inner.client.lock().await;
        if let Some(docker) = &*client {
            return Ok(docker.clone());
        }
        let agreed = tokio::time::timeout(QUICK, self.connect()?.negotiate_version()).await;
        let docker = match agreed {
            Ok(agreed) => agreed.map_err(|error| EngineError::from_client(doing, error))?,
            Err(_) => return Err(EngineError::Timeout { doing }),
        };
        *client = Some(docker.clone());
        Ok(docker)
    }

    fn connect(&self) -> Result<Docker, EngineError> {
        let seconds = QUICK.as_secs();
        let connected = match &self.inner.host {
            EngineHost::Socket(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), seconds, API_DEFAULT_VERSION)
            }
            EngineHost::Tcp(address) => {
                Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION)
            }
        };
        connected.map_err(|error| EngineError::from_client("connecting", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_host() {
        assert_eq!(
            EngineHost::parse("unix:///run/x.sock"),
            Ok(EngineHost::Socket("/run/x.sock".into()))
        );
        assert_eq!(
            EngineHost::parse("tcp://10.0.0.2:2375"),
            Ok(EngineHost::Tcp("10.0.0.2:2375".to_owned()))
        );
        for wrong in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "ssh://host",
            "tcp://",
            "http://x",
        ] {
            assert!(EngineHost::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_unavailable() {
        let engine = Engine::new(Some("unix:///nonexistent/docker.sock".to_owned())).unwrap();
        let error = engine.info().await.unwrap_err();
        assert!(
            matches!(error, EngineError::Unavailable { .. }),
            "{error:?}"
        );
        assert!(error.is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_hangs_costs_a_time_limit() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        // Connections are taken by the kernel and never answered, like those of a stopped process.
        let _hung = tokio::net::UnixListener::bind(&socket).unwrap();
        let engine = Engine::new(Some(format!("unix://{}", socket.display()))).unwrap();
        let error = engine.ping().await.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    }
}
