//! Ways to break Homeroom's word on purpose, so that the checker can be shown to notice.
//!
//! Owns: which one is asked for (`HOMEROOM_SABOTAGE`). Refuses to know: what each does: that stands where the word is kept.
//! Built only with the feature `sabotage`, which no release has; without it every question is answered by a constant `false` and
//! nothing of this is in the binary.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A tail takes whatever comes next, as if nothing were missing.
    SkipHoleFilling,
    /// Entries are told before their transaction is committed.
    PublishBeforeCommit,
    /// A seat goes live one entry before its room's head.
    LiveOneEarly,
    /// What the bell tells is not listened to.
    IgnoreBell,
    /// Nobody asks whether a client id was answered before.
    DropDuplicateLookUp,
    /// Who is put out of a room goes on hearing it.
    DeliverToRevoked,
    /// The ring goes on showing a message that was taken back.
    RetractedFromRing,
    /// What was written to a socket counts as delivered.
    MarksOnWrites,
}

/// Whether this is what is asked for.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn is(what: Sabotage) -> bool {
    static ASKED: std::sync::LazyLock<Option<Sabotage>> = std::sync::LazyLock::new(|| {
        let asked = std::env::var("HOMEROOM_SABOTAGE").ok()?;
        let sabotage = match asked.as_str() {
            "skip-hole-filling" => Sabotage::SkipHoleFilling,
            "publish-before-commit" => Sabotage::PublishBeforeCommit,
            "live-one-early" => Sabotage::LiveOneEarly,
            "ignore-bell" => Sabotage::IgnoreBell,
            "drop-duplicate-look-up" => Sabotage::DropDuplicateLookUp,
            "deliver-to-revoked" => Sabotage::DeliverToRevoked,
            "retracted-from-ring" => Sabotage::RetractedFromRing,
            "marks-on-writes" => Sabotage::MarksOnWrites,
            _ => return None,
        };
        tracing::warn!(?sabotage, "this server breaks its word on purpose");
        Some(sabotage)
    });
    *ASKED == Some(what)
}

/// Never: this binary was not built for it.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn is(_: Sabotage) -> bool {
    false
}
