//! A connection while HTTP is spoken on it, before a session takes it over or it ends.
//!
//! Owns: how long it may go without being answered, once it was. The HTTP server bounds the first request's head and the pause between
//! requests, `web` how long a request may take with its body, and nothing bounds the rest: whoever sends half of a second head, or does not
//! read the answer, would keep a connection for as long as they like. Until something was written no clock is set: most connections are
//! taken over after their first request.
//! Refuses to know: requests, TLS, and sessions, which look after themselves.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// How long a client may take to be answered: for the rest of its request, of which the largest has 16 KiB, and for taking what is written.
/// Longer than any request takes here.
pub(crate) const ANSWERED: Duration = Duration::from_secs(30);

/// The socket as it was accepted. What is rare is behind a pointer, so that the other is no bigger for it.
pub(crate) type Way = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An accepted connection.
pub struct Accepted<W = Way> {
    way: W,
    /// By then something has to have been written again; nothing was yet.
    answered_by: Option<Instant>,
    /// Wakes who waits; only once somebody does.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<W> Accepted<W> {
    /// It was accepted now.
    pub(crate) fn new(way: W) -> Self {
        Self { way, answered_by: None, alarm: None }
    }

    /// Whoever takes it over looks after it.
    pub(crate) fn into_way(self) -> W {
        self.way
    }

    /// Nothing can be read or written now: whether that has been so for too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(answered_by) = self.answered_by else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(answered_by)));
        while alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= answered_by {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
            // Something was written since it was set.
            alarm.as_mut().reset(answered_by);
        }
        Poll::Pending
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                self.answered_by = Some(Instant::now() + ANSWERED);
                written
            }
            Poll::Ready(_) => written,
            Poll::Pending => self.wait(context),
        }
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Accepted<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.way).poll_read(context, buffer) {
            Poll::Pending => self.wait(context),
            read => read,
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Accepted<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.way).poll_write(context, bytes);
        self.wrote(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.way).poll_write_vectored(context, pieces);
        self.wrote(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.way.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.way).poll_flush(context) {
            Poll::Pending => self.wait(context),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.way).poll_shutdown(context) {
            Poll::Pending => self.wait(context),
            shut => shut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[test]
    fn a_plain_connection_pays_nothing_for_tls() {
        assert!(size_of::<Way>() <= size_of::<TcpStream>() + size_of::<usize>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_byte_now_and_then_and_gets_no_answer_is_left() {
        let (mut client, server) = duplex(1_024);
        let mut accepted = Accepted::new(server);
        accepted.write_all(b"!").await.unwrap();
        let begun = Instant::now();
        let reading = async {
            let mut byte = [0];
            loop {
                if let Err(error) = accepted.read_exact(&mut byte).await {
                    return error.kind();
                }
            }
        };
        let sending = async {
            loop {
                client.write_all(b"x").await.unwrap();
                tokio::time::sleep(ANSWERED / 7).await;
            }
        };
        tokio::select! {
            kind = reading => assert_eq!(kind, ErrorKind::TimedOut),
            () = sending => {}
        }
        assert!(begun.elapsed() < ANSWERED * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_may_ask_again_for_ever_and_who_does_not_read_is_left() {
        let (mut client, server) = duplex(1_024);
        let mut accepted = Accepted::new(server);
        let begun = Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(ANSWERED * 2 / 3).await;
            client.write_all(b"?").await.unwrap();
            assert_eq!(accepted.read_u8().await.unwrap(), b'?');
            accepted.write_all(b"!").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'!');
        }
        assert!(begun.elapsed() > ANSWERED * 3);
        assert_eq!(accepted.write_all(&[0; 2_048]).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
