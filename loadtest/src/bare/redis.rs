//! The least that a bus must do: what one connection publishes to Redis comes to another that has subscribed. What Homeroom's nodes tell
//! each other is told as a ratio to it.
//!
//! Owns: the few words of Redis' protocol (RESP) that this takes, a write a message, and as few reads as there may be. Refuses to know:
//! lost connections, who wants to hear what, and what is said.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Messages go round these, as those of so many rooms do.
const CHANNELS: usize = 30;
/// How long it may take until everybody who listens is heard of, and until the last message has come.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the ear's program is called.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Ear {
    /// The port of a Redis on this machine.
    redis: u16,
}

/// Who publishes, and who hears it.
pub struct Bus {
    publisher: TcpStream,
    subscriber: TcpStream,
    heard: Vec<u8>,
}

/// What is published in a window.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Messages a second, evenly spaced.
    pub rate: f64,
    /// For how long.
    pub length: Duration,
    /// The length of each, in bytes.
    pub bytes: usize,
}

impl Bus {
    /// Connects both, and waits until Redis knows as many listeners, this one and those of other processes.
    ///
    /// # Errors
    /// When Redis does not answer, or not all of them come.
    pub async fn open(redis: u16, listeners: usize) -> io::Result<Self> {
        let connect = async || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let mut bus = Self { publisher: connect().await?, subscriber: connect().await?, heard: Vec::new() };
        bus.subscriber.write_all(&subscribe()).await?;
        let all = async {
            let mut answer = [0; 16];
            loop {
                bus.publisher.write_all(&publish(CHANNELS - 1, b"")).await?;
                let length = bus.publisher.read(&mut answer).await?;
                if answer[..length] == *format!(":{listeners}\r\n").as_bytes() {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        timeout(PATIENCE, all).await.map_err(|_| io::Error::other("not everybody has subscribed"))??;
        Ok(bus)
    }

    /// Publishes, and gives how long each message took from its sending until it was here, in microseconds.
    ///
    /// # Errors
    /// When the connection breaks, or a message does not come.
    pub async fn carry(&mut self, load: Load) -> io::Result<Vec<u64>> {
        let began = Instant::now();
        let count = (load.rate * load.length.as_secs_f64()) as usize;
        let Self { publisher, subscriber, heard } = self;
        let publishing = async {
            let mut answers = [0; 1024];
            for number in 0..count {
                sleep_until(began + Duration::from_secs_f64(number as f64 / load.rate)).await;
                let text = format!("{:.<bytes$}", began.elapsed().as_micros(), bytes = load.bytes);
                publisher.write_all(&publish(number % CHANNELS, text.as_bytes())).await?;
                // Who heard it is said here, and of no interest; left unread, it would stop Redis some day.
                let _nothing_yet = publisher.try_read(&mut answers);
            }
            Ok::<_, io::Error>(())
        };
        let hearing = async {
            let mut times = Vec::with_capacity(count);
            while times.len() < count {
                let now = began.elapsed().as_micros() as u64;
                let mut taken = 0;
                while let Some((said, end)) = message(&heard[taken..]) {
                    let said = said.map(|said| &heard[taken..][said]).unwrap_or_default();
                    // What was published before this window says no time.
                    times.extend(moment(said).map(|moment| now.saturating_sub(moment)));
                    taken += end;
                }
                heard.drain(..taken);
                if times.len() < count && subscriber.read_buf(heard).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(times)
        };
        let both = async { tokio::try_join!(publishing, hearing) };
        let ((), times) = timeout(load.length + PATIENCE, both).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(times)
    }
}

/// Hears all channels until it is killed: what it costs to hear and do nothing.
///
/// # Errors
/// When the connection breaks.
pub fn listen(Ear { redis }: Ear) -> io::Result<Infallible> {
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, redis))?;
    stream.write_all(&subscribe())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut rest = 0;
    loop {
        let length = match stream.read(&mut buffer[rest..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => rest + length,
        };
        let mut taken = 0;
        while let Some((_, end)) = message(&buffer[taken..length]) {
            taken += end;
        }
        buffer.copy_within(taken..length, 0);
        rest = length - taken;
    }
}

fn subscribe() -> Vec<u8> {
    let channels = (0..CHANNELS).map(|number| format!("$7\r\nroom-{number:02}\r\n"));
    let words: String = channels.collect();
    format!("*{}\r\n$9\r\nSUBSCRIBE\r\n{words}", CHANNELS + 1).into_bytes()
}

fn publish(channel: usize, text: &[u8]) -> Vec<u8> {
    let length = text.len();
    let mut command = format!("*3\r\n$7\r\nPUBLISH\r\n$7\r\nroom-{channel:02}\r\n${length}\r\n").into_bytes();
    command.extend_from_slice(text);
    command.extend_from_slice(b"\r\n");
    command
}

/// The first whole message of what was read: where its text lies, unless it only confirms a subscription, and where it ends.
fn message(input: &[u8]) -> Option<(Option<Range<usize>>, usize)> {
    let (mut at, mut text) = (after_line(input, 0)?, None);
    // Each has three parts: what it is, the channel, and the text or a number.
    for _ in 0..3 {
        let next = after_line(input, at)?;
        text = match input[at] {
            b'$' => {
                let length: usize = std::str::from_utf8(&input[at + 1..next - 2]).ok()?.parse().ok()?;
                at = next + length + 2;
                if input.len() < at {
                    return None;
                }
                Some(next..next + length)
            }
            _ => {
                at = next;
                None
            }
        };
    }
    Some((text, at))
}

fn after_line(input: &[u8], from: usize) -> Option<usize> {
    let line = input.get(from..)?;
    Some(from + line.windows(2).position(|two| two == b"\r\n")? + 2)
}

fn moment(text: &[u8]) -> Option<u64> {
    let digits = text.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_any_pieces() {
        let said = b"*3\r\n$7\r\nmessage\r\n$7\r\nroom-00\r\n$5\r\n12...\r\n";
        let all = [&b"*3\r\n$9\r\nsubscribe\r\n$7\r\nroom-00\r\n:1\r\n"[..], said, said].concat();
        let (nothing, first) = message(&all).unwrap();
        assert!(nothing.is_none());
        let (text, second) = message(&all[first..]).unwrap();
        assert_eq!(moment(&all[first..][text.unwrap()]), Some(12));
        assert_eq!(first + 2 * second, all.len());
        for length in 0..said.len() {
            assert!(message(&said[..length]).is_none(), "{length} bytes of one are no message");
        }
        assert_eq!(moment(b""), None);
    }
}
