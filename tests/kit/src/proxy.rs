//! A switchable link to a server: what stands behind it can be made to vanish and come back
//! without touching the real one, which other tests use at the same time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Where a link listens and where it leads.
#[derive(Clone)]
enum Ends {
    Tcp {
        listen: std::net::SocketAddr,
        to: String,
    },
    Unix {
        listen: PathBuf,
        to: PathBuf,
    },
}

/// A link that can be cut and mended.
pub struct Link {
    ends: Ends,
    up: Mutex<Option<CancellationToken>>,
}

impl Link {
    /// A TCP link to `to` (`host:port`), cut at first; gives its own address.
    pub async fn tcp(to: &str) -> (Self, std::net::SocketAddr) {
        Self::tcp_at("127.0.0.1", to).await
    }

    /// The same on another address of this machine, for who cannot reach its own.
    pub async fn tcp_at(address: &str, to: &str) -> (Self, std::net::SocketAddr) {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let listen = listener.local_addr().expect("an address");
        (
            Self {
                ends: Ends::Tcp {
                    listen,
                    to: to.to_owned(),
                },
                up: Mutex::new(None),
            },
            listen,
        )
    }

    /// A Unix socket link, cut at first.
    pub fn unix(listen: PathBuf, to: PathBuf) -> Self {
        Self {
            ends: Ends::Unix { listen, to },
            up: Mutex::new(None),
        }
    }

    /// Lets connections through.
    pub async fn mend(&self) {
        let stop = CancellationToken::new();
        match self.ends.clone() {
            Ends::Tcp { listen, to } => {
                let listener = TcpListener::bind(listen).await.expect("the port again");
                let ours = stop.clone();
                tokio::spawn(ours.clone().run_until_cancelled_owned(async move {
                    while let Ok((near, _)) = listener.accept().await {
                        let to = to.clone();
                        tokio::spawn(ours.clone().run_until_cancelled_owned(async move {
                            if let Ok(far) = TcpStream::connect(to).await {
                                join(near, far).await;
                            }
                        }));
                    }
                }));
            }
            Ends::Unix { listen, to } => {
                let _ = std::fs::remove_file(&listen);
                let listener = UnixListener::bind(&listen).expect("a socket");
                let ours = stop.clone();
                tokio::spawn(ours.clone().run_until_cancelled_owned(async move {
                    let to = Arc::new(to);
                    while let Ok((near, _)) = listener.accept().await {
                        let to = Arc::clone(&to);
                        tokio::spawn(ours.clone().run_until_cancelled_owned(async move {
                            if let Ok(far) = UnixStream::connect(to.as_path()).await {
                                join(near, far).await;
                            }
                        }));
                    }
                }));
            }
        }
        *self.up.lock().expect("not poisoned") = Some(stop);
    }

    /// Refuses connections and ends the open ones.
    pub fn cut(&self) {
        if let Some(stop) = self.up.lock().expect("not poisoned").take() {
            stop.cancel();
        }
        if let Ends::Unix { listen, .. } = &self.ends {
            let _ = std::fs::remove_file(listen);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn join(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) {
    // Either side going away is how every connection ends.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}
