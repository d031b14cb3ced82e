//! What a run has to have done to show anything.
//!
//! Owns: the kinds of operations that are counted. Refuses to know: how often each is enough: a planned one that never happened fails a run.

use std::fmt;

/// What is counted, so that a run in which it never happened is not taken for a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// A message was stored.
    Posted,
    /// A message was changed.
    Edited,
    /// A message was taken back.
    Retracted,
    /// A client said how far it has come.
    Marked,
    /// Somebody was added to a room.
    Joined,
    /// Somebody was removed from a room.
    Left,
    /// A client began a room anew because what it may see had changed.
    Reset,
    /// A client took a snapshot of a room that it began anew.
    LookedAnew,
    /// The same client id was sent over two sockets at once.
    SentTwice,
    /// Another content was sent under a client id that was used.
    Contradicted,
    /// A client read far slower than it was sent to.
    ReadSlowly,
    /// A client stopped reading, and asked for more all the same.
    StoppedReading,
    /// A client broke its connection and came back at once.
    CameBack,
    /// A client was away for seconds.
    WasAway,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Posted,
        Self::Edited,
        Self::Retracted,
        Self::Marked,
        Self::Joined,
        Self::Left,
        Self::Reset,
        Self::LookedAnew,
        Self::SentTwice,
        Self::Contradicted,
        Self::ReadSlowly,
        Self::StoppedReading,
        Self::CameBack,
        Self::WasAway,
    ];
}

/// What everybody does, in every run.
pub const USUAL: [Deed; 4] = [Deed::Posted, Deed::Edited, Deed::Retracted, Deed::Marked];

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posted => "messages posted",
            Self::Edited => "messages edited",
            Self::Retracted => "messages taken back",
            Self::Marked => "marks said",
            Self::Joined => "people added to rooms",
            Self::Left => "people removed from rooms",
            Self::Reset => "rooms begun anew by a client",
            Self::LookedAnew => "rooms looked at anew by a client",
            Self::SentTwice => "client ids sent over two sockets at once",
            Self::Contradicted => "client ids used for another content",
            Self::ReadSlowly => "stretches read slowly",
            Self::StoppedReading => "times reading was stopped",
            Self::CameBack => "connections broken and made again",
            Self::WasAway => "absences of seconds",
        })
    }
}
