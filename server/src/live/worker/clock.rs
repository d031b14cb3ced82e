//! A worker's clock: one wheel for all its sessions.
//!
//! Owns: when a session is looked at again, and when its sign-in. Refuses to know: what is seen then.

use super::Worker;
use homeroom_protocol::SessionId;
use std::rc::Rc;
use uuid::Uuid;

/// Seconds between two looks at whether the sign-ins of its sessions still stand.
pub(super) const LOGINS: usize = 60;
/// The wheel's slots, one a second. Longer than the longest time between two looks at a session (50 s).
pub(super) const SLOTS: usize = 64;

impl Worker {
    /// Looks at the session again after so many seconds.
    pub(in crate::live) fn look_after(&self, session: SessionId, seconds: usize) {
        let slot = (self.hand.get() + seconds.clamp(1, SLOTS - 1)) % SLOTS;
        if let Some(slot) = self.wheel.borrow_mut().get_mut(slot) {
            slot.push(session);
        }
    }

    pub(super) fn tick(self: &Rc<Self>) {
        let logins_in = self.logins_in.get().saturating_sub(1);
        self.logins_in.set(if logins_in == 0 { LOGINS } else { logins_in });
        if logins_in == 0 {
            actix_rt::spawn(self.clone().look_at_logins());
        }
        let hand = (self.hand.get() + 1) % SLOTS;
        self.hand.set(hand);
        let due = self.wheel.borrow_mut().get_mut(hand).map(std::mem::take).unwrap_or_default();
        for id in due {
            let session = self.sessions.borrow().get(&id).cloned();
            if let Some(session) = session
                && let Some(seconds) = session.look()
            {
                self.look_after(id, seconds);
            }
        }
    }

    /// Ends the sessions whose sign-in has run out, or was ended where this node did not hear of it.
    async fn look_at_logins(self: Rc<Self>) {
        let logins: Vec<Uuid> = self.all_sessions().iter().filter_map(|session| session.login()).collect();
        for some in logins.chunks(1_000) {
            match crate::identity::still_signed_in(self.node.log.db(), some).await {
                Ok(standing) => {
                    some.iter().filter(|login| !standing.contains(login)).for_each(|login| self.signed_out(*login));
                }
                // Sessions stay while the database is away; it is asked again in a minute.
                Err(error) => {
                    tracing::warn!(%error, "sign-ins can't be looked at");
                    return;
                }
            }
        }
    }
}
