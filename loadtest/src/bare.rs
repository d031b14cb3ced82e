//! The least that a server must do: epoll, WebSocket frames, and a write per delivery. Homeroom's costs are told as
//! ratios to it, taken in the same run, because the speed of a machine drifts.
//!
//! Owns: upgrading, joining one room per connection (`join N`), and repeating every other text to the room. Refuses to
//! know: everything that makes Homeroom worth having: who may see what, durability, order across a crash.

pub mod messages;
pub mod ours;
pub mod postgres;
pub mod redis;
pub mod sqlite;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::convert::Infallible;
use std::io::{self, Read, Write};

const LISTENER: Token = Token(usize::MAX);

/// What is read at once. What fills it not has emptied the socket: no second read only to hear that there is nothing.
const READ: usize = 64 * 1024;

/// Sec-WebSocket-Accept for the one key that [`crate::wire`] sends.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                           sec-websocket-accept: /7+Pf2hB5/gLjCcqbW3XW53k6D0=\r\n\r\n";
const JOINED: &[u8] = b"\x81\x06joined";

/// How a bare server writes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Let the bare server write once for all messages that one round of epoll brought, not once a message.
    #[arg(long)]
    pub gather: bool,
}

struct Peer {
    stream: TcpStream,
    /// What is left of a frame that did not come whole; mostly nothing, and then without memory of its own.
    rest: Vec<u8>,
    room: Option<usize>,
    upgraded: bool,
}

/// Who is in a room, and what is to be written to them.
#[derive(Default)]
struct Room {
    members: Vec<usize>,
    waiting: Vec<u8>,
}

/// Everything by number: looking somebody up is looking into a list.
struct Bare {
    options: Options,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    rooms: Vec<Room>,
    /// Rooms to which something is to be written.
    due: Vec<usize>,
    dead: Vec<usize>,
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
        Bare { options, peers: Vec::new(), free: Vec::new(), rooms: Vec::new(), due: Vec::new(), dead: Vec::new() };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let place = bare.free.pop().unwrap_or(bare.peers.len());
                    poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
                    let peer = Some(Peer { stream, rest: Vec::new(), room: None, upgraded: false });
                    match bare.peers.get_mut(place) {
                        Some(free) => *free = peer,
                        None => bare.peers.push(peer),
                    }
                }
            } else {
                bare.read(event.token().0, &mut buffer);
            }
        }
        for room in std::mem::take(&mut bare.due) {
            bare.write(room);
        }
        for place in std::mem::take(&mut bare.dead) {
            bare.forget(place);
        }
    }
}

impl Bare {
    fn read(&mut self, place: usize, buffer: &mut [u8]) {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(place) else { return };
            let length = match peer.stream.read(buffer) {
                Ok(0) => return self.dead.push(place),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.dead.push(place),
            };
            if peer.rest.is_empty() {
                let taken = self.take_in(place, &mut buffer[..length]);
                self.keep(place, &buffer[taken..length]);
            } else {
                let mut all = std::mem::take(&mut peer.rest);
                all.extend_from_slice(&buffer[..length]);
                let taken = self.take_in(place, &mut all);
                self.keep(place, &all[taken..]);
            }
            if length < buffer.len() {
                return;
            }
        }
    }

    fn keep(&mut self, place: usize, rest: &[u8]) {
        if let Some(Some(peer)) = self.peers.get_mut(place) {
            peer.rest = rest.to_vec();
        }
    }

    /// All that is whole of it. The answer is how much that was.
    fn take_in(&mut self, place: usize, input: &mut [u8]) -> usize {
        let Some(Some(peer)) = self.peers.get_mut(place) else { return input.len() };
        if !peer.upgraded {
            if !input.ends_with(b"\r\n\r\n") {
                return 0;
            }
            peer.upgraded = true;
            if peer.stream.write_all(SWITCHING).is_err() {
                self.dead.push(place);
            }
            return input.len();
        }
        let mut taken = 0;
        while let Some((start, end)) = unmask(&mut input[taken..]) {
            let (start, end) = (taken + start, taken + end);
            self.heard(place, &input[start..end]);
            taken = end;
        }
        taken
    }

    fn heard(&mut self, place: usize, text: &[u8]) {
        let Some(Some(peer)) = self.peers.get_mut(place) else { return };
        if let Some(number) = text.strip_prefix(b"join ") {
            let Some(room) = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u16>().ok()) else {
                return self.dead.push(place);
            };
            let room = usize::from(room);
            peer.room = Some(room);
            if peer.stream.write_all(JOINED).is_err() {
                self.dead.push(place);
            }
            if self.rooms.len() <= room {
                self.rooms.resize_with(room + 1, Room::default);
            }
            return self.rooms[room].members.push(place);
        }
        let Some(room) = peer.room else { return };
        let waiting = &mut self.rooms[room].waiting;
        if waiting.is_empty() {
            self.due.push(room);
        }
        frame(waiting, text);
        if !self.options.gather {
            self.due.pop();
            self.write(room);
        }
    }

    /// Everybody in the room gets what waits. Whoever does not take it at once is cut off: a bare server buffers nothing.
    fn write(&mut self, room: usize) {
        let Some(room) = self.rooms.get_mut(room) else { return };
        for place in &room.members {
            if let Some(Some(peer)) = self.peers.get_mut(*place)
                && peer.stream.write(&room.waiting).ok() != Some(room.waiting.len())
            {
                self.dead.push(*place);
            }
        }
        room.waiting.clear();
    }

    fn forget(&mut self, place: usize) {
        let Some(peer) = self.peers.get_mut(place).and_then(Option::take) else { return };
        self.free.push(place);
        if let Some(room) = peer.room.and_then(|room| self.rooms.get_mut(room)) {
            room.members.retain(|member| *member != place);
        }
    }
}

/// Unmasks a whole text frame where it lies: from where to where its payload goes. Only [`crate::wire`] ever talks to this server.
fn unmask(input: &mut [u8]) -> Option<(usize, usize)> {
    let (header, length) = match *input.get(1)? & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?]))),
        short => (2, usize::from(short)),
    };
    let start = header + 4;
    let end = start + length;
    let mask: [u8; 4] = input.get(header..start)?.try_into().ok()?;
    let payload = input.get_mut(start..end)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((start, end))
}

/// Writes a text frame behind what waits.
fn frame(waiting: &mut Vec<u8>, text: &[u8]) {
    waiting.push(0x81);
    match u8::try_from(text.len()) {
        Ok(length @ 0..126) => waiting.push(length),
        _ => {
            waiting.push(126);
            waiting.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    waiting.extend_from_slice(text);
}
