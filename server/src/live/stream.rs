//! The socket under a session, plain or in TLS, read and written without waiting.
//!
//! Owns: how bytes pass through TLS once the connection was taken over, and what of them is sealed and not sent yet.
//! Refuses to know: frames, and when there is something to write.
//!
//! Bytes in TLS are sealed one record at a time, and the next one only when the socket has taken the one before: whoever is slow has one
//! record waiting here, and the rest where the session bounds it.

use crate::accepted::Way;
use rustls::ServerConnection;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// Bytes sealed at once: the most that one record of TLS holds (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;

/// A socket that a session reads and writes.
pub(super) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<Tls>),
}

/// A socket in TLS.
pub(super) struct Tls {
    socket: TcpStream,
    state: RefCell<State>,
}

struct State {
    connection: ServerConnection,
    /// How many of the bytes that the next write begins with are sealed already.
    sealed: usize,
}

impl Stream {
    /// Takes an accepted connection over; bytes that came already are put behind `early`.
    pub(super) fn new(way: Way, early: &mut Vec<u8>) -> io::Result<Self> {
        let stream = match way {
            Either::Left(socket) => Self::Plain(socket),
            Either::Right(stream) => {
                let (socket, mut connection) = stream.into_inner();
                // It ends with "would block", or with what the first read will say again.
                let _all = connection.reader().read_to_end(early);
                Self::Tls(Box::new(Tls { socket, state: RefCell::new(State { connection, sealed: 0 }) }))
            }
        };
        stream.socket().set_nodelay(true)?;
        Ok(stream)
    }

    /// Waits until there may be something to read. Dropping the future loses nothing.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket().readable().await
    }

    /// Waits until something may be written. Dropping the future loses nothing.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Reads what is there; 0 at its end. `buffer` holds several records of TLS, so that nothing stays behind unnoticed.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes as much as the socket takes, and says how much of `bytes` that was. The next write begins with the rest: some of it may be
    /// sealed already.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Says that nothing more is written. What was not sent by now never is.
    pub(super) fn finish(&self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            tls.say_goodbye();
        }
        socket2::SockRef::from(self.socket()).shutdown(Shutdown::Write)
    }

    /// Reads and forgets; 0 at the end.
    pub(super) fn try_discard(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket().try_read(buffer)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }
}

impl Tls {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let owes = state.connection.wants_write();
        if state.connection.read_tls(&mut Raw(&self.socket))? == 0 {
            return Ok(0);
        }
        let opened = state.connection.process_new_packets();
        // What TLS itself has to say, an alert or an answer to new keys. Behind bytes that wait it waits, too.
        if !owes {
            let _later = state.flush(&self.socket);
        }
        opened.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        state.connection.reader().read(buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let mut written = 0;
        loop {
            match state.flush(&self.socket) {
                Ok(()) => written += std::mem::take(&mut state.sealed),
                Err(error) if error.kind() == ErrorKind::WouldBlock && written > 0 => return Ok(written),
                Err(error) => return Err(error),
            }
            let rest = bytes.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(written);
            }
            state.sealed = state.connection.writer().write(rest.get(..RECORD).unwrap_or(rest))?;
        }
    }

    /// The end as TLS says it, unless bytes still wait: they may be what its reader must not see any more.
    fn say_goodbye(&self) {
        let mut state = self.state.borrow_mut();
        if !state.connection.wants_write() {
            state.connection.send_close_notify();
            let _gone = state.flush(&self.socket);
        }
    }
}

impl State {
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Raw(socket))?;
        }
        Ok(())
    }
}

/// The socket as TLS reads and writes it, without waiting.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_session_pays_nothing_for_tls() {
        assert_eq!(size_of::<Stream>(), size_of::<TcpStream>());
    }
}
