//! What a session says to its socket.
//!
//! Owns: writing at once, what leaves in one write with what follows, and the output that waits while the socket is blocked.
//! Refuses to know: what is said, and to whom.
//!
//! The output buffer exists only while the socket is blocked and is bounded in bytes. Events that do not fit put the seat *behind*; answers
//! always fit, because no more commands are read while output waits.

use super::super::Ending;
use super::Session;
use std::cell::RefMut;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Events wait for a blocked socket up to this many bytes; beyond, their seat is behind.
const OUTPUT: usize = 128 * 1024;

/// What waits: for a blocked socket, or for more that leaves with it.
#[derive(Default)]
pub(super) struct Output {
    waiting: Vec<u8>,
    written: usize,
    /// The socket is blocked, and since then it has taken nothing.
    since: Option<Instant>,
    /// What is written waits for more of it.
    gathering: bool,
}

impl Output {
    /// Whether so many bytes leave now, or may wait.
    fn fits(&self, bytes: usize) -> bool {
        let leaves_now = self.since.is_none() && !self.gathering;
        let waiting = self.waiting.len() - self.written;
        leaves_now || waiting == 0 || waiting + bytes <= OUTPUT
    }

    /// How long the blocked socket has taken nothing.
    pub(super) fn stuck(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }
}

impl Session {
    /// Events for a live seat; `false` when the socket is blocked and they do not fit. Then nothing of them was taken.
    pub(in super::super) fn offer(self: &Rc<Self>, bytes: &[u8]) -> bool {
        if self.has_ended() {
            return false;
        }
        let output = self.output.borrow_mut();
        let fits = output.fits(bytes.len());
        if fits {
            self.put_into(output, bytes);
        }
        fits
    }

    /// What may be dropped; `false` when it was.
    pub(in super::super) fn offer_if_idle(self: &Rc<Self>, bytes: &[u8]) -> bool {
        !self.is_blocked() && self.offer(bytes)
    }

    /// Answers and the like. They always fit: no more commands are read while output waits.
    pub(in super::super) fn write(&self, bytes: &[u8]) {
        if let Some(session) = self.me() {
            session.put(bytes);
        }
    }

    /// This session as the worker holds it; nothing once it has ended.
    fn me(&self) -> Option<Rc<Self>> {
        self.worker.session(self.id)
    }

    /// An answer with which something comes to the same session, mostly. It leaves with that, in one write, or by itself once all that was
    /// ready with it has been looked at. It is nothing that a change of rights could make wrong meanwhile.
    pub(super) fn write_with_what_comes(&self, bytes: &[u8]) {
        let Some(session) = self.me() else { return };
        let mut output = self.output.borrow_mut();
        let is_first = output.waiting.is_empty();
        output.waiting.extend_from_slice(bytes);
        if is_first && output.since.is_none() && !output.gathering {
            drop(output);
            self.worker.hold_back(session);
        }
    }

    /// Nothing came with it.
    pub(in super::super) fn write_what_was_held_back(self: &Rc<Self>) {
        // Gathering and writing nothing: what has left meanwhile is not there any more, and a blocked socket takes it in its turn.
        self.in_one_write(|| {});
    }

    /// Whatever `what` writes leaves in one write, which costs the kernel as much as each of them would. It can't wait in between: nothing
    /// that was judged by one view is kept until there is another.
    pub(in super::super) fn in_one_write(self: &Rc<Self>, what: impl FnOnce()) {
        if std::mem::replace(&mut self.output.borrow_mut().gathering, true) {
            return what();
        }
        what();
        self.output.borrow_mut().gathering = false;
        self.put(&[]);
    }

    pub(super) fn put(self: &Rc<Self>, bytes: &[u8]) {
        self.put_into(self.output.borrow_mut(), bytes);
    }

    fn put_into(self: &Rc<Self>, mut output: RefMut<'_, Output>, bytes: &[u8]) {
        if output.since.is_some() || output.gathering {
            output.waiting.extend_from_slice(bytes);
            return;
        }
        let gathered: Vec<u8>;
        let bytes = if output.waiting.is_empty() {
            bytes
        } else {
            output.waiting.extend_from_slice(bytes);
            gathered = std::mem::take(&mut output.waiting);
            &gathered
        };
        if bytes.is_empty() {
            return;
        }
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                drop(output);
                self.end(Ending::Drop);
                return;
            }
        };
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            output.waiting = rest.to_vec();
            output.written = 0;
            output.since = Some(Instant::now());
            actix_rt::spawn(self.clone().flush());
        }
    }

    /// Writes what waits as the socket takes it; lives only while it is blocked.
    async fn flush(self: Rc<Self>) {
        loop {
            // What waits may have been judged before a revocation that this node has not heard of.
            self.worker.until_deliverable().await;
            if self.ending.get() == Some(Ending::Drop) {
                return;
            }
            if self.stream.writable().await.is_err() {
                self.end(Ending::Drop);
                return;
            }
            let mut output = self.output.borrow_mut();
            let written = output.written;
            match self.stream.try_write(output.waiting.get(written..).unwrap_or_default()) {
                Ok(more) => {
                    output.written += more;
                    output.since = Some(Instant::now());
                    // It takes what it is sent. What it says is not read meanwhile, its answer to a ping, which waits behind all this, among that.
                    self.heartbeat.set(self.heartbeat.get().heard());
                    if output.written >= output.waiting.len() {
                        *output = Output::default();
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    drop(output);
                    self.end(Ending::Drop);
                    return;
                }
            }
        }
        self.wake.notify_one();
        self.catch_up();
    }

    /// Bytes that wait for the socket.
    pub(super) fn waiting(&self) -> usize {
        let output = self.output.borrow();
        output.waiting.len() - output.written
    }

    pub(in super::super) fn is_blocked(&self) -> bool {
        self.output.borrow().since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::LoggedIn;
    use crate::live::instructions::node;
    use crate::live::stream::Stream;
    use crate::live::worker::Worker;
    use homeroom_protocol::{Language, PersonId};
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use uuid::Uuid;

    /// A session, and its other end.
    async fn connected() -> (Rc<Session>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.writable().await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_nonblocking(true).unwrap();
        (Session::new(Worker::start(Arc::new(node().unwrap())), Stream::Plain(stream), None), peer)
    }

    /// What has arrived by now.
    fn heard(peer: &mut TcpStream) -> Vec<u8> {
        let mut heard = Vec::new();
        let outcome = peer.read_to_end(&mut heard);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
        heard
    }

    async fn heard_soon(peer: &mut TcpStream) -> Vec<u8> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let heard = heard(peer);
            if !heard.is_empty() || Instant::now() > until {
                return heard;
            }
            tokio::task::yield_now().await;
        }
    }

    #[actix_rt::test]
    async fn an_answer_leaves_with_what_comes_or_alone_a_moment_later() {
        let (session, mut peer) = connected().await;
        session.write_with_what_comes(b"first,");
        session.write_with_what_comes(b"second,");
        assert!(heard(&mut peer).is_empty());
        session.put(b"and what came");
        assert_eq!(heard_soon(&mut peer).await, b"first,second,and what came");
        session.write_with_what_comes(b"alone");
        assert!(heard(&mut peer).is_empty());
        assert_eq!(heard_soon(&mut peer).await, b"alone");
        assert!(!session.is_blocked() && session.waiting() == 0);
    }

    /// A phone at the edge of its network, with much to catch up with.
    #[actix_rt::test]
    async fn who_takes_what_is_sent_is_there_however_slowly_and_who_takes_nothing_is_not() {
        let (session, mut peer) = connected().await;
        let (person, login) = (PersonId::new(), Uuid::now_v7());
        let who = LoggedIn { person, login, name: "Ana Silva".to_owned(), language: Language::english() };
        *session.who.borrow_mut() = Some(who);
        session.worker.node.tails.cover(Instant::now(), Duration::from_secs(3_600));
        session.put(&vec![b'x'; 64 * 1024 * 1024]);
        let mut some = vec![0; 1024 * 1024];
        for _ in 0..8 {
            let before = session.waiting();
            let until = Instant::now() + Duration::from_secs(20);
            while session.waiting() == before && Instant::now() < until {
                let _nothing_yet = peer.read(&mut some);
                tokio::task::yield_now().await;
            }
            assert!(session.waiting() < before && session.is_blocked());
            assert!(session.look().is_some(), "it is there, though it has said nothing");
        }
        let looks = (0..4).take_while(|_| session.look().is_some()).count();
        assert!(looks < 4 && session.has_ended(), "it is not there");
    }

    #[actix_rt::test]
    async fn an_answer_that_waits_takes_no_room_from_what_comes() {
        let (session, mut peer) = connected().await;
        session.write_with_what_comes(b"answer,");
        assert!(session.offer(&[b'x'; OUTPUT]), "the socket is not blocked");
        assert!(heard_soon(&mut peer).await.starts_with(b"answer,xxx"));
    }
}
