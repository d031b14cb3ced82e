//! The thinnest WebSocket client there is, so that a thousand of them cost less than the server that they measure.
//!
//! Owns: the upgrade, in TLS where that is wished, masked text frames out, whole text frames in, pongs. Refuses to know: fragments, extensions and
//! everything else of RFC 6455 that Homeroom's server never sends; meeting one is an error. Anything that is not about
//! measuring uses the real client.

use homeroom_protocol::SUBPROTOCOL;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Largest frame read: the limit of what is kept in memory for one connection.
const LARGEST: usize = 1024 * 1024;

/// Connections come from many addresses of this machine by turns.
static NEXT_SOURCE: AtomicU8 = AtomicU8::new(0);

/// A server on this machine, as a client has to know it.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whom it trusts, where TLS is spoken.
    pub tls: Option<Arc<ClientConfig>>,
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    buffer: Vec<u8>,
    /// What of the buffer was given out already.
    taken: usize,
}

impl Wire {
    /// Connects to a server on this machine and upgrades.
    ///
    /// # Errors
    /// When the address is not of this machine, or the server does not upgrade.
    pub async fn open(server: impl Into<Door>) -> io::Result<Self> {
        let Door { address: server, tls } = server.into();
        if !server.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "load goes to this machine only"));
        }
        if server.is_ipv6() {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            return Self::upgrade(Either::Left(stream), server).await;
        }
        let socket = TcpSocket::new_v4()?;
        // One address has some 28,000 ports, and to a server everybody would be the same neighbour.
        let next = NEXT_SOURCE.fetch_add(1, Ordering::Relaxed);
        socket.bind((Ipv4Addr::new(127, 0, 1, next % 200 + 1), 0).into())?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let stream = match tls {
            None => Either::Left(stream),
            Some(tls) => {
                let shaking = TlsConnector::from(tls).connect(ServerName::from(server.ip()), stream);
                Either::Right(Box::new(shaking.await?))
            }
        };
        Self::upgrade(stream, server).await
    }

    /// The same with hardly any room for what comes: what is not read soon stays with the server.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn open_narrow(server: SocketAddr) -> io::Result<Self> {
        if !server.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "load goes to this machine only"));
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 * 1024)?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Self::upgrade(Either::Left(stream), server).await
    }

    async fn upgrade(mut stream: Either<TcpStream, Box<TlsStream<TcpStream>>>, server: SocketAddr) -> io::Result<Self> {
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {server}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: bG9hZCB0ZXN0IGNsaWVudA==\r\n\
             sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut wire = Self { stream, buffer: Vec::with_capacity(1024), taken: 0 };
        loop {
            if let Some(end) = find(&wire.buffer, b"\r\n\r\n") {
                if !wire.buffer.starts_with(b"HTTP/1.1 101 ") {
                    let said = String::from_utf8_lossy(&wire.buffer[..end.min(200)]).into_owned();
                    return Err(io::Error::other(format!("no upgrade: {said}")));
                }
                wire.taken = end + 4;
                return Ok(wire);
            }
            wire.read().await?;
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(&masked(0x1, text.as_bytes())).await
    }

    /// The next text. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection is lost or closed, or the server sends what it never should.
    pub async fn next(&mut self) -> io::Result<&[u8]> {
        let (start, end) = loop {
            match self.whole_frame()? {
                Some((0x1, start, end)) => break (start, end),
                Some((opcode, start, end)) => self.answer(opcode, start, end).await?,
                None => self.read().await?,
            }
        };
        self.taken = end;
        Ok(&self.buffer[start..end])
    }

    /// How long a ping and its pong take. Texts that come meanwhile are passed over.
    ///
    /// # Errors
    /// When the connection is lost or closed.
    pub async fn ping(&mut self) -> io::Result<Duration> {
        let asked = Instant::now();
        self.write(&masked(0x9, b"trip")).await?;
        loop {
            match self.whole_frame()? {
                Some((0xA, _, end)) => {
                    self.taken = end;
                    return Ok(asked.elapsed());
                }
                Some((0x1, _, end)) => self.taken = end,
                Some((opcode, start, end)) => self.answer(opcode, start, end).await?,
                None => self.read().await?,
            }
        }
    }

    /// Answers a ping of the server's, which asks so once in a while whether anybody is there. Anything else is the end.
    async fn answer(&mut self, opcode: u8, start: usize, end: usize) -> io::Result<()> {
        match opcode {
            0x9 => {
                let pong = masked(0xA, &self.buffer[start..end]);
                self.taken = end;
                self.write(&pong).await
            }
            0x8 => {
                let code = self.buffer[start..end].first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Err(io::Error::other(format!("closed with {code}")))
            }
            _ => Err(io::Error::other(format!("opcode {opcode} was not expected"))),
        }
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// A whole frame in the buffer: its opcode, and where its payload lies.
    fn whole_frame(&self) -> io::Result<Option<(u8, usize, usize)>> {
        let waiting = &self.buffer[self.taken..];
        let [first, second, rest @ ..] = waiting else { return Ok(None) };
        if first & 0xF0 != 0x80 || second & 0x80 != 0 {
            return Err(io::Error::other("a fragment, a reserved bit or a mask from the server"));
        }
        let (header, length) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX)),
                None => return Ok(None),
            },
            short => (2, usize::from(*short)),
        };
        if length > LARGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let start = self.taken + header;
        Ok((waiting.len() >= header + length).then_some((first & 0x0F, start, start + length)))
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.reserve(1024);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A masked frame. The mask is all zeros: it hides nothing from anybody on loopback, and costs nothing.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn frames_of_all_lengths_come_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while find(&request, b"\r\n\r\n").is_none() {
                stream.read_buf(&mut request).await.unwrap();
            }
            let mut out = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02ok\x89\x01p".to_vec();
            out.extend_from_slice(&[0x81, 126, 0x01, 0x00]);
            out.extend_from_slice(&[b'x'; 256]);
            for byte in out {
                stream.write_all(&[byte]).await.unwrap();
            }
            let mut pong = [0; 7];
            stream.read_exact(&mut pong).await.unwrap();
            let mut ping = [0; 10];
            stream.read_exact(&mut ping).await.unwrap();
            // Both ask whether the other one is there at the same time.
            stream.write_all(b"\x81\x02ok\x89\x01p\x8a\x04trip").await.unwrap();
            let mut again = [0; 7];
            stream.read_exact(&mut again).await.unwrap();
            assert_eq!(pong, again);
            pong
        };
        let client = async {
            let mut wire = Wire::open(address).await.unwrap();
            assert_eq!(wire.next().await.unwrap(), b"ok");
            assert_eq!(wire.next().await.unwrap(), [b'x'; 256]);
            wire.ping().await.unwrap();
        };
        let (pong, ()) = tokio::join!(server, client);
        assert_eq!(pong, [0x8A, 0x81, 0, 0, 0, 0, b'p']);
        let elsewhere: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert!(Wire::open(elsewhere).await.is_err());
    }
}
