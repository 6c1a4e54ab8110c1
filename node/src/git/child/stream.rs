//! The two ends of a pipe: what comes from a server is counted, what comes from libgit2 is
//! acknowledged at once.

use super::meter::Meter;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One end of a pipe.
pub(super) struct End {
    stream: TcpStream,
    on_read: OnRead,
}

/// What is done with bytes beside passing them on.
enum OnRead {
    Count(Arc<Meter>),
    Acknowledge,
}

impl End {
    /// A connection to a server, whose received bytes are counted and limited.
    pub(super) fn of_server(stream: TcpStream, meter: Arc<Meter>) -> io::Result<Self> {
        Self::new(stream, OnRead::Count(meter))
    }

    /// A connection from libgit2, to which every byte is acknowledged as soon as it is read.
    ///
    /// libgit2 writes the head of a request and its body one after the other and leaves Nagle's
    /// algorithm on: the body waits until the head is acknowledged, which the kernel puts off for
    /// 40 ms in the hope of an answer to send along. There is none before the body.
    pub(super) fn of_libgit2(stream: TcpStream) -> io::Result<Self> {
        Self::new(stream, OnRead::Acknowledge)
    }

    fn new(stream: TcpStream, on_read: OnRead) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, on_read })
    }

    fn have_read(&self, count: usize) -> io::Result<()> {
        match &self.on_read {
            OnRead::Count(meter) if meter.receive(count as u64) => Ok(()),
            OnRead::Count(_) => Err(io::Error::other("more bytes than a fetch may receive")),
            // Holds only until the next answer is sent.
            OnRead::Acknowledge => self.stream.set_quickack(true),
        }
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

    async fn ends() -> (TcpStream, End) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (client, End::of_libgit2(accepted).unwrap())
    }

    /// The kernel takes a connection on which requests and answers alternate for one whose
    /// acknowledgements can wait; the first request is not enough to see it.
    #[tokio::test]
    async fn what_libgit2_sends_is_acknowledged_at_once_also_after_an_answer() {
        let (mut client, mut end) = ends().await;
        let mut buffer = [0; 4];
        for _ in 0..3 {
            client.write_all(b"head").await.unwrap();
            end.read_exact(&mut buffer).await.unwrap();
            assert!(end.stream.quickack().unwrap());
            end.write_all(b"body").await.unwrap();
            client.read_exact(&mut buffer).await.unwrap();
            assert!(!end.stream.quickack().unwrap(), "else this shows nothing");
        }
    }

    #[tokio::test]
    async fn more_than_may_be_received_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut end = End::of_server(stream, Arc::new(Meter::new(6))).unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4];
        server.write_all(b"12345678").await.unwrap();
        end.read_exact(&mut buffer).await.unwrap();
        end.read_exact(&mut buffer).await.unwrap_err();
    }
}
