//! Who may write where, as far as their own place in the room tells: one rule for what is posted and for what is being typed.
//!
//! Owns: [`may_write`]. Refuses to know: other people's places (see `append::plan`), and who may see what (see `sight`).

use super::sight::View;
use homeroom_protocol::{Address, ErrorCode, Fault, RoomKind};

/// Whether a member of a room may write there. Staff may write to guardians of the room only: whether there is such a one is for the
/// caller to find out, who may know other people's places.
///
/// # Errors
/// `forbidden`, in words that say where to write instead.
pub fn may_write(view: &View, kind: RoomKind, to: Address) -> Result<(), Fault> {
    let forbidden = |words: &str| Err(Fault::new(ErrorCode::Forbidden, words));
    match (to, view) {
        (Address::Announcements, View::Staff { .. }) => Ok(()),
        (Address::Announcements, View::Guardian { .. }) => {
            forbidden("Only staff can announce. Write to the class's staff instead.")
        }
        (Address::Private(_), _) if kind == RoomKind::School => {
            forbidden("A school's room takes announcements only. Write in the class's room.")
        }
        (Address::Private(_), View::Staff { .. }) => Ok(()),
        (Address::Private(about), View::Guardian { person, .. }) => {
            if about.guardian == *person && view.students().any(|student| student == about.student) {
                Ok(())
            } else {
                forbidden(NO_SUCH_GUARDIAN)
            }
        }
    }
}

/// What is said of a private conversation that nobody could be in.
pub const NO_SUCH_GUARDIAN: &str = "There is no such guardian of this student in this class.";
