//! Whether a session's peer is still there.
//!
//! Owns: when it is pinged, and when its silence is enough. Refuses to know: sockets and clocks.

use homeroom_protocol::SessionId;

/// What a session's peer has been heard of between looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heartbeat {
    heard: bool,
    /// Pings since something was heard.
    unanswered: u8,
    /// The first look only sees whether it has signed in.
    begun: bool,
}

/// What a look asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Wait,
    Ping,
    Silent,
}

impl Heartbeat {
    /// A whole frame came.
    pub(super) fn heard(self) -> Self {
        Self { heard: true, ..self }
    }

    /// Two pings without an answer are enough.
    pub(super) fn look(self) -> (Self, Beat) {
        let unanswered = if self.heard || !self.begun { 0 } else { self.unanswered };
        let next = Self { heard: false, unanswered: unanswered + 1, begun: true };
        match (self.begun, unanswered) {
            (false, _) => (Self { unanswered: 0, ..next }, Beat::Wait),
            (true, 0 | 1) => (next, Beat::Ping),
            (true, _) => (next, Beat::Silent),
        }
    }
}

/// Seconds between two pings: 25–50, at random per session, so that sessions that came together do not stay together.
pub(super) fn ping_after(session: SessionId) -> usize {
    let [.., random] = *session.0.as_bytes();
    25 + usize::from(random) % 26
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pings_without_an_answer_end_a_session_and_any_frame_is_an_answer() {
        let look = |heartbeat: &mut Heartbeat| {
            let (next, beat) = heartbeat.look();
            *heartbeat = next;
            beat
        };
        let mut silent = Heartbeat::default().heard();
        let beats: Vec<Beat> = (0..4).map(|_| look(&mut silent)).collect();
        assert_eq!(beats, [Beat::Wait, Beat::Ping, Beat::Ping, Beat::Silent]);
        let mut answering = Heartbeat::default().heard();
        look(&mut answering);
        for _ in 0..10 {
            assert_eq!(look(&mut answering), Beat::Ping);
            answering = answering.heard();
        }
        assert_eq!(look(&mut answering), Beat::Ping);
        assert_eq!(look(&mut answering), Beat::Ping);
        assert_eq!(look(&mut answering), Beat::Silent);
    }

    #[test]
    fn pings_are_spread_between_25_and_50_seconds() {
        let seconds: std::collections::BTreeSet<usize> = (0..2_000).map(|_| ping_after(SessionId::new())).collect();
        assert_eq!((seconds.first(), seconds.last()), (Some(&25), Some(&50)));
    }
}
