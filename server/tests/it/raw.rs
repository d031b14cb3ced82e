//! A WebSocket of bare bytes, for what no client library would send.
//!
//! Owns: the upgrade, masked frames of any form, and reading what the server says frame by frame. Refuses to know: what is tested.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// How long the server may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Any mask but zero, so that a payload must be unmasked to be read.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame, its length in the shortest form. `first`: the byte with the last-bit, the reserved bits and the opcode.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = match payload.len() {
        short @ 0..=125 => vec![first, 0x80 | short as u8],
        medium @ 126..=0xFFFF => announced(first, 126, medium as u64),
        long => announced(first, 127, long as u64),
    };
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The beginning of a masked frame, its length in the form of one's choice: 126 for two bytes, 127 for eight. The mask is to follow.
pub fn announced(first: u8, form: u8, length: u64) -> Vec<u8> {
    let wide = length.to_be_bytes();
    let bytes = if form == 126 { &wide[6..] } else { &wide };
    [&[first, 0x80 | form], bytes].concat()
}

/// An open WebSocket.
pub struct Raw {
    pub reader: Reader,
    pub writer: OwnedWriteHalf,
}

/// What the server says.
pub struct Reader {
    stream: OwnedReadHalf,
    held: Vec<u8>,
    read: usize,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::upgrade(address, TcpStream::connect(address).await.unwrap()).await
    }

    /// For somebody who will not read: the network keeps little for them.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Self::upgrade(address, socket.connect(address).await.unwrap()).await
    }

    async fn upgrade(address: SocketAddr, mut stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: homeroom.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        let (stream, writer) = stream.into_split();
        Self { reader: Reader { stream, held: Vec::new(), read: 0 }, writer }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    pub async fn say(&mut self, frame: &Value) {
        self.send(&masked(0x81, frame.to_string().as_bytes())).await;
    }
}

impl Reader {
    /// The next frame: its opcode and payload; nothing at the end of the connection.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, payload, end)) = self.whole() {
                let frame = (opcode, payload.to_vec());
                self.read = end;
                return Some(frame);
            }
            self.held.drain(..std::mem::take(&mut self.read));
            let mut more = vec![0; 64 * 1024];
            let read =
                tokio::time::timeout(PATIENCE, self.stream.read(&mut more)).await.expect("the server says something");
            match read {
                Ok(0) => return None,
                Ok(read) => self.held.extend_from_slice(&more[..read]),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next text frame that is of this type; other frames are passed over.
    pub async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let (opcode, payload) = self.frame().await.unwrap_or_else(|| panic!("closed while waiting for {kind}"));
            assert_ne!(opcode, 8, "closed with {payload:?} while waiting for {kind}");
            if opcode == 1 {
                let frame: Value = serde_json::from_slice(&payload).unwrap();
                if frame["type"] == kind {
                    return frame;
                }
            }
        }
    }

    /// The payload of the next pong; other frames are passed over.
    pub async fn pong(&mut self) -> Vec<u8> {
        loop {
            let (opcode, payload) = self.frame().await.expect("a pong before the end");
            assert_ne!(opcode, 8, "closed with {payload:?} while waiting for a pong");
            if opcode == 10 {
                return payload;
            }
        }
    }

    /// Reads until what came ends so, as fast as can be.
    pub async fn skip_until(&mut self, end: &[u8]) {
        let mut last = std::mem::take(&mut self.held);
        while !last.ends_with(end) {
            last.resize(64 * 1024, 0);
            let read =
                tokio::time::timeout(PATIENCE, self.stream.read(&mut last)).await.expect("the server says something");
            last.truncate(read.unwrap());
            assert!(!last.is_empty(), "closed");
        }
        self.read = 0;
    }

    /// The code of the close frame, which must be the last thing that the server says before it ends the connection.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame().await.expect("a close frame before the end");
            if opcode == 8 {
                assert_eq!(self.frame().await, None, "nothing comes after a close frame");
                return u16::from_be_bytes(payload[..2].try_into().unwrap());
            }
        }
    }

    fn whole(&self) -> Option<(u8, &[u8], usize)> {
        let held = self.held.get(self.read..)?;
        let (first, second) = (*held.first()?, *held.get(1)?);
        let (length, from) = match second {
            126 => (usize::from(u16::from_be_bytes(held.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(held.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        Some((first & 0xF, held.get(from..from + length)?, self.read + from + length))
    }
}
