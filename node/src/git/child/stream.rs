//! The two ends of a pipe: what is read is acknowledged at once, and what comes from a server is
//! counted.

use super::meter::Meter;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One end of a pipe.
///
/// libgit2 writes the head of a request and its body one after the other and leaves Nagle's
/// algorithm on, and some servers answer likewise: the second part waits until the first is
/// acknowledged, which the kernel puts off for 40 ms in the hope of something to send along. There
/// is nothing before the second part. So whatever is read is acknowledged at once.
pub(super) struct End {
    stream: TcpStream,
    /// Counts and limits what is read.
    meter: Option<Arc<Meter>>,
}

impl End {
    /// A connection to a server, whose received bytes are counted and limited.
    pub(super) fn of_server(stream: TcpStream, meter: Arc<Meter>) -> io::Result<Self> {
        Self::new(stream, Some(meter))
    }

    /// A connection from libgit2.
    pub(super) fn of_libgit2(stream: TcpStream) -> io::Result<Self> {
        Self::new(stream, None)
    }

    fn new(stream: TcpStream, meter: Option<Arc<Meter>>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, meter })
    }

    fn have_read(&self, count: usize) -> io::Result<()> {
        if let Some(meter) = &self.meter
            && !meter.receive(count as u64)
        {
            return Err(io::Error::other("more bytes than a fetch may receive"));
        }
        // Holds only until something is sent.
        self.stream.set_quickack(true)
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.have_read(buf.filled().len() - before))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    /// The kernel takes a connection on which requests and answers alternate for one whose
    /// acknowledgements can wait.
    async fn is_prompt(mut peer: TcpStream, mut end: End) {
        let mut buffer = [0; 4];
        for _ in 0..3 {
            end.write_all(b"said").await.unwrap();
            peer.read_exact(&mut buffer).await.unwrap();
            peer.write_all(b"head").await.unwrap();
            end.read_exact(&mut buffer).await.unwrap();
            assert!(end.stream.quickack().unwrap());
        }
        end.write_all(b"said").await.unwrap();
        assert!(!end.stream.quickack().unwrap(), "else this shows nothing");
    }

    #[tokio::test]
    async fn what_is_read_is_acknowledged_at_once() {
        let (libgit2, accepted) = connection().await;
        is_prompt(libgit2, End::of_libgit2(accepted).unwrap()).await;
        let (connected, server) = connection().await;
        let meter = Arc::new(Meter::new(1000));
        is_prompt(server, End::of_server(connected, meter).unwrap()).await;
    }

    #[tokio::test]
    async fn more_than_may_be_received_is_an_error() {
        let (connected, mut server) = connection().await;
        let mut end = End::of_server(connected, Arc::new(Meter::new(6))).unwrap();
        let mut buffer = [0; 4];
        server.write_all(b"12345678").await.unwrap();
        end.read_exact(&mut buffer).await.unwrap();
        end.read_exact(&mut buffer).await.unwrap_err();
    }
}
