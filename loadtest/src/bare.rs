//! The least that a server must do: epoll, WebSocket frames, and a write per delivery. Homeroom's costs are told as
//! ratios to it, taken in the same run, because the speed of a machine drifts.
//!
//! Owns: upgrading, joining one room per connection (`join N`), and repeating every other text to the room. Refuses to
//! know: everything that makes Homeroom worth having: who may see what, durability, order across a crash.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};

const LISTENER: Token = Token(usize::MAX);

/// Sec-WebSocket-Accept for the one key that [`crate::wire`] sends.
const ACCEPT: &str = "/7+Pf2hB5/gLjCcqbW3XW53k6D0=";

/// How a bare server writes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Let the bare server write once for all messages that one round of epoll brought, not once a message.
    #[arg(long)]
    pub gather: bool,
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    room: Option<u32>,
    upgraded: bool,
}

struct Bare {
    options: Options,
    peers: HashMap<Token, Peer>,
    rooms: HashMap<u32, Vec<Token>>,
    /// What is to be written, by room, when it is gathered.
    waiting: HashMap<u32, Vec<u8>>,
    dead: Vec<Token>,
}

/// Serves until it is killed.
///
/// # Errors
/// When it can't listen.
pub fn serve(options: Options) -> io::Result<Infallible> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut bare =
        Bare { options, peers: HashMap::new(), rooms: HashMap::new(), waiting: HashMap::new(), dead: Vec::new() };
    let mut events = Events::with_capacity(1024);
    let mut next = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                    bare.peers.insert(Token(next), Peer { stream, input: Vec::new(), room: None, upgraded: false });
                    next += 1;
                }
            } else {
                bare.read(event.token());
            }
        }
        for (room, bytes) in std::mem::take(&mut bare.waiting) {
            bare.write(room, &bytes);
        }
        for token in std::mem::take(&mut bare.dead) {
            bare.forget(token);
        }
    }
}

impl Bare {
    fn read(&mut self, token: Token) {
        let mut buffer = [0; 16 * 1024];
        let Some(peer) = self.peers.get_mut(&token) else { return };
        loop {
            match peer.stream.read(&mut buffer) {
                Ok(0) => return self.dead.push(token),
                Ok(length) => peer.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.dead.push(token),
            }
        }
        if !peer.upgraded {
            if !peer.input.ends_with(b"\r\n\r\n") {
                return;
            }
            peer.input.clear();
            peer.upgraded = true;
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                 sec-websocket-accept: {ACCEPT}\r\n\r\n"
            );
            if peer.stream.write_all(answer.as_bytes()).is_err() {
                self.dead.push(token);
            }
            return;
        }
        while let Some(text) = self.peers.get_mut(&token).and_then(|peer| take_text(&mut peer.input)) {
            self.heard(token, &text);
        }
    }

    fn heard(&mut self, token: Token, text: &[u8]) {
        let join = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("join ")?.parse().ok());
        let Some(peer) = self.peers.get_mut(&token) else { return };
        if let Some(room) = join {
            peer.room = Some(room);
            self.rooms.entry(room).or_default().push(token);
            let joined = frame(b"joined");
            if peer.stream.write_all(&joined).is_err() {
                self.dead.push(token);
            }
            return;
        }
        let Some(room) = peer.room else { return };
        let bytes = frame(text);
        if self.options.gather {
            self.waiting.entry(room).or_default().extend(bytes);
        } else {
            self.write(room, &bytes);
        }
    }

    /// Everybody in the room gets it. Whoever does not take it at once is cut off: a bare server buffers nothing.
    fn write(&mut self, room: u32, bytes: &[u8]) {
        for token in self.rooms.get(&room).into_iter().flatten() {
            if let Some(peer) = self.peers.get_mut(token)
                && peer.stream.write(bytes).ok() != Some(bytes.len())
            {
                self.dead.push(*token);
            }
        }
    }

    fn forget(&mut self, token: Token) {
        if let Some(members) = self.peers.remove(&token).and_then(|peer| self.rooms.get_mut(&peer.room?)) {
            members.retain(|member| *member != token);
        }
    }
}

/// Takes a whole, masked text frame out of the input. Only [`crate::wire`] ever talks to this server.
fn take_text(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (header, length) = match *input.get(1)? & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?]))),
        short => (2, usize::from(short)),
    };
    let start = header + 4;
    if input.len() < start + length {
        return None;
    }
    let mask: [u8; 4] = input[header..start].try_into().ok()?;
    let text = input[start..start + length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    input.drain(..start + length);
    Some(text)
}

fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ 0..126) => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(text);
    frame
}
