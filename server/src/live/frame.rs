//! WebSocket framing by RFC 6455, the server's side, for a socket that was taken over.
//!
//! Owns: decoding what clients send, strictly and within bounds, and encoding what is sent to them.
//! Refuses to know: sockets, sessions, and what the messages say.
//!
//! The read buffer is shared by the whole worker, so the decoder works on a borrowed chunk: a frame that lies wholly in it
//! is unmasked in place and handed on without a copy. Only what is incomplete is kept, in one allocation that an idle
//! connection does not have. Lengths are judged when the header is read, before a byte of payload is kept; what is kept
//! grows with what has arrived, never with what was announced.

use actix_ws::{CloseCode, CloseReason};
use std::ops::ControlFlow;
use std::str;

/// What a client said.
#[derive(Debug, PartialEq)]
pub enum Item<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The client closes. Nothing after this counts.
    Close(Option<CloseReason>),
}

/// How a client broke the protocol. The connection can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set and no extension was agreed on (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// Opcodes 3–7 and 11–15 mean nothing (section 5.2).
    #[error("unknown opcode")]
    UnknownOpcode,
    /// Every frame of a client is masked (section 5.1).
    #[error("a frame is not masked")]
    Unmasked,
    /// Control frames hold at most 125 bytes and are not fragmented (section 5.5).
    #[error("a control frame is too long or fragmented")]
    BadControl,
    /// A continuation without a beginning, or a new message inside another (section 5.4).
    #[error("fragments out of order")]
    BadFragment,
    /// A length in more bytes than it needs, or with its highest bit set (section 5.2).
    #[error("a length is not in its shortest form")]
    BadLength,
    /// A close frame with one byte, or a code that may not be sent (sections 5.5.1 and 7.4).
    #[error("a close frame is malformed")]
    BadClose,
    /// Text, or a close reason, that is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    BadText,
    /// Longer than this server takes.
    #[error("a message is too large")]
    TooLarge,
}

impl ProtocolError {
    /// The code to close with.
    #[must_use]
    pub fn close_code(self) -> homeroom_protocol::CloseCode {
        match self {
            Self::BadText => homeroom_protocol::CloseCode::InvalidText,
            Self::TooLarge => homeroom_protocol::CloseCode::TooLarge,
            _ => homeroom_protocol::CloseCode::Protocol,
        }
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The longest header of a client's frame: two bytes, eight of length, four of mask.
const HEADER: usize = 14;
/// The longest payload of a control frame.
const CONTROL: usize = 125;

/// Decodes what one client sends.
#[derive(Debug)]
pub struct Decoder {
    limit: u32,
    closed: bool,
    /// What is incomplete; nothing between two messages.
    partial: Option<Box<Partial>>,
}

#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER],
    header_length: usize,
    frame: Option<Frame>,
    control: Vec<u8>,
    /// `TEXT` or `BINARY`, while a message is under way.
    message_kind: Option<u8>,
    message: Vec<u8>,
    /// Bytes of a text message that are known to be UTF-8.
    sound: usize,
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    length: u64,
    remaining: u64,
}

impl Decoder {
    /// For messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, closed: false, partial: None }
    }

    /// Bytes kept for what is incomplete.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.message.capacity() + partial.control.capacity())
    }

    /// Takes a chunk, in whatever pieces the network made of it, and calls `on` for each whole message in it, until `on` breaks. Gives
    /// the number of bytes at its end that were not looked at then: they are to come first the next time. The chunk is unmasked in place.
    ///
    /// # Errors
    /// [`ProtocolError`]; the messages before the breach were handed on.
    pub fn decode(
        &mut self,
        mut chunk: &mut [u8],
        mut on: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<usize, ProtocolError> {
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue() && !chunk.is_empty() && !self.closed {
            let frame = self.partial.as_ref().and_then(|partial| partial.frame);
            let frame = match frame {
                Some(frame) => frame,
                None => match self.header(&mut chunk)? {
                    Some(frame) => frame,
                    None => break,
                },
            };
            flow = self.payload(frame, &mut chunk, &mut on)?;
        }
        if self.partial.as_ref().is_some_and(|partial| partial.is_empty()) {
            self.partial = None;
        }
        Ok(if self.closed { 0 } else { chunk.len() })
    }

    /// Reads the next header from the chunk; `None` when it is not all there yet.
    fn header(&mut self, chunk: &mut &mut [u8]) -> Result<Option<Frame>, ProtocolError> {
        let kept = self.partial.as_ref().map_or(0, |partial| partial.header_length);
        let parsed = if kept == 0 {
            parse_header(chunk)?
        } else {
            // The rest of a header of which some bytes came earlier.
            let partial = self.partial.get_or_insert_default();
            let more = chunk.len().min(HEADER - kept);
            if let (Some(place), Some(bytes)) = (partial.header.get_mut(kept..kept + more), chunk.get(..more)) {
                place.copy_from_slice(bytes);
            }
            parse_header(partial.header.get(..kept + more).unwrap_or_default())?
        };
        let Some((frame, length)) = parsed else {
            let partial = self.partial.get_or_insert_default();
            let more = chunk.len().min(HEADER - kept);
            if let (Some(place), Some(bytes)) = (partial.header.get_mut(kept..kept + more), chunk.get(..more)) {
                place.copy_from_slice(bytes);
            }
            partial.header_length = kept + more;
            *chunk = &mut [];
            return Ok(None);
        };
        self.judge(frame)?;
        if let Some(partial) = &mut self.partial {
            partial.header_length = 0;
        }
        advance(chunk, length - kept);
        Ok(Some(frame))
    }

    /// Whether the frame may come now, and is not too long.
    fn judge(&self, frame: Frame) -> Result<(), ProtocolError> {
        if frame.opcode >= CLOSE {
            return if !frame.last || frame.length > CONTROL as u64 { Err(ProtocolError::BadControl) } else { Ok(()) };
        }
        let under_way = self.partial.as_ref().is_some_and(|partial| partial.message_kind.is_some());
        if (frame.opcode == CONTINUATION) != under_way {
            return Err(ProtocolError::BadFragment);
        }
        let kept = self.partial.as_ref().map_or(0, |partial| partial.message.len() as u64);
        if kept.saturating_add(frame.length) > u64::from(self.limit) {
            return Err(ProtocolError::TooLarge);
        }
        Ok(())
    }

    fn payload(
        &mut self,
        mut frame: Frame,
        chunk: &mut &mut [u8],
        on: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let here = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(chunk.len());
        let arrived = frame.length - frame.remaining;
        let (bytes, rest) = std::mem::take(chunk).split_at_mut(here);
        *chunk = rest;
        unmask(bytes, frame.mask, (arrived % 4) as usize);
        frame.remaining -= here as u64;

        let under_way = self.partial.as_ref().is_some_and(|partial| partial.message_kind.is_some());
        let whole = arrived == 0 && frame.remaining == 0;
        if whole && frame.opcode >= CLOSE {
            if let Some(partial) = &mut self.partial {
                partial.frame = None;
            }
            return self.control(frame.opcode, bytes, on);
        }
        if whole && frame.last && !under_way {
            return Ok(on(message(frame.opcode, bytes)?));
        }

        let partial = self.partial.get_or_insert_default();
        if frame.opcode >= CLOSE {
            partial.control.extend_from_slice(bytes);
        } else {
            partial.message_kind.get_or_insert(frame.opcode);
            partial.message.extend_from_slice(bytes);
            if partial.message_kind == Some(TEXT) {
                partial.check_text(frame.last && frame.remaining == 0)?;
            }
        }
        partial.frame = (frame.remaining > 0).then_some(frame);
        if frame.remaining > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        if frame.opcode >= CLOSE {
            let payload = std::mem::take(&mut partial.control);
            return self.control(frame.opcode, &payload, on);
        }
        if frame.last {
            let bytes = std::mem::take(&mut partial.message);
            let kind = partial.message_kind.take().unwrap_or(BINARY);
            partial.sound = 0;
            return Ok(on(message(kind, &bytes)?));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn control(
        &mut self,
        opcode: u8,
        payload: &[u8],
        on: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        Ok(match opcode {
            PING => on(Item::Ping(payload)),
            PONG => on(Item::Pong),
            _ => {
                let reason = close_reason(payload)?;
                self.closed = true;
                on(Item::Close(reason))
            }
        })
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header_length == 0 && self.frame.is_none() && self.message_kind.is_none()
    }

    /// Checks the part of a text that came last, so that bad UTF-8 ends the connection as soon as it is there.
    fn check_text(&mut self, complete: bool) -> Result<(), ProtocolError> {
        let unchecked = self.message.get(self.sound..).unwrap_or_default();
        match str::from_utf8(unchecked) {
            Ok(_) => self.sound = self.message.len(),
            Err(error) if error.error_len().is_none() && !complete => self.sound += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::BadText),
        }
        Ok(())
    }
}

/// A header and its length, or `None` when more bytes are needed. What is wrong is said as soon as it can be seen.
fn parse_header(bytes: &[u8]) -> Result<Option<(Frame, usize)>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(ProtocolError::ReservedBit);
    }
    let opcode = first & 0x0F;
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(ProtocolError::UnknownOpcode);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(ProtocolError::Unmasked);
    }
    let (length, after) = match second & 0x7F {
        126 => {
            let Some(&[a, b]) = bytes.get(2..4) else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes([a, b]));
            if length < 126 {
                return Err(ProtocolError::BadLength);
            }
            (length, 4)
        }
        127 => {
            let Some(&[a, b, c, d, e, f, g, h]) = bytes.get(2..10) else { return Ok(None) };
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            if length < 1 << 16 || length >> 63 != 0 {
                return Err(ProtocolError::BadLength);
            }
            (length, 10)
        }
        short => (u64::from(short), 2),
    };
    let Some(&[a, b, c, d]) = bytes.get(after..after + 4) else { return Ok(None) };
    let frame = Frame { opcode, last: first & 0x80 != 0, mask: [a, b, c, d], length, remaining: length };
    Ok(Some((frame, after + 4)))
}

fn message(kind: u8, bytes: &[u8]) -> Result<Item<'_>, ProtocolError> {
    if kind == TEXT {
        str::from_utf8(bytes).map(Item::Text).map_err(|_| ProtocolError::BadText)
    } else {
        Ok(Item::Binary(bytes))
    }
}

fn close_reason(payload: &[u8]) -> Result<Option<CloseReason>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ProtocolError::BadClose),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    // Section 7.4.2, with the codes registered since: 1000–1003, 1007–1014; 3000–4999 for libraries and applications.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::BadClose);
    }
    let reason = str::from_utf8(reason).map_err(|_| ProtocolError::BadText)?;
    let description = (!reason.is_empty()).then(|| reason.to_owned());
    Ok(Some(CloseReason { code: CloseCode::from(code), description }))
}

fn advance(chunk: &mut &mut [u8], by: usize) {
    let taken = std::mem::take(chunk);
    let by = by.min(taken.len());
    *chunk = taken.split_at_mut(by).1;
}

/// Removes the mask, `offset` bytes of which were used for what came before.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut eights = bytes.chunks_exact_mut(8);
    for eight in &mut eights {
        if let Ok(word) = <[u8; 8]>::try_from(&*eight) {
            eight.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in eights.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.reserve(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends a text message as one frame.
pub fn append_text(out: &mut Vec<u8>, payload: &[u8]) {
    append(out, TEXT, payload);
}

/// A ping; at most 125 bytes of payload are sent.
#[must_use]
pub fn ping(payload: &[u8]) -> Vec<u8> {
    control_frame(PING, payload)
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control_frame(PONG, payload)
}

/// A close frame; the reason is cut to what fits.
#[must_use]
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let fits = reason.floor_char_boundary(CONTROL - 2);
    payload.extend_from_slice(reason.get(..fits).unwrap_or_default().as_bytes());
    control_frame(CLOSE, &payload)
}

fn control_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 2);
    append(&mut out, opcode, payload.get(..payload.len().min(CONTROL)).unwrap_or_default());
    out
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
