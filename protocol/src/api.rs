//! The bodies of the HTTP API under `/api/v1`.
//!
//! Owns: what a page shows before and beside the live events: rooms, people, conversations, reach, signing in.
//! Refuses to know: routes, status codes and SQL.

use crate::event::{About, Address, Mark, Message, Role};
use crate::frame::You;
use crate::ids::{ConversationId, EventId, PersonId, RoomId};
use crate::language::Language;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/home`: the first screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Home {
    /// Who is signed in.
    pub you: You,
    /// Their rooms, by title.
    pub rooms: Vec<RoomSummary>,
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoomSummary {
    /// The room.
    pub room: RoomId,
    /// Whether it is a class's or a school's.
    pub kind: RoomKind,
    /// Its title, such as `Class 4B`.
    pub title: String,
    /// The school's name.
    pub school: String,
    /// The person's part in it.
    pub role: Role,
    /// For a guardian: their students in it. For staff: empty (see [`RoomDetail::families`]).
    pub students: Vec<Person>,
    /// The conversations that the person may see and in which something was said, newest first; announcements always.
    pub conversations: Vec<ConversationSummary>,
    /// The last event that this summary knows of; `null` when there is none.
    pub position: Option<EventId>,
}

/// What a room belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// A class: announcements and private conversations.
    Class,
    /// A school: announcements only.
    School,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Somebody, as others in the room may know them. Never a number or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Person {
    /// Who.
    pub person: PersonId,
    /// Given and family name.
    pub name: String,
}

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationSummary {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who is in it.
    pub address: Address,
    /// The last number in it.
    pub n: u64,
    /// Messages by others that the person has not read.
    pub unread: u64,
    /// The person's own marks.
    pub mine: Mark,
    /// The marks of others that the person may see: for staff the guardian's (not for announcements: see [`Reach`]), for a
    /// guardian those of the staff.
    pub others: Vec<Mark>,
    /// The newest message, as it stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub last: Option<Message>,
}

/// `GET /api/v1/rooms/{room}`: a room, opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoomDetail {
    /// As in the list.
    pub summary: RoomSummary,
    /// Its staff, those who left and wrote something among them.
    pub staff: Vec<Person>,
    /// For staff: the students, with their guardians, by name. For a guardian: empty.
    pub families: Vec<Family>,
}

/// A student with their guardians, as staff see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Family {
    /// The student.
    pub student: Person,
    /// Their guardians in this room.
    pub guardians: Vec<Guardian>,
}

/// A guardian, as staff see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Guardian {
    /// Who.
    #[serde(flatten)]
    pub person: Person,
    /// The language they read.
    pub language: Language,
    /// Whether anything reaches them: they have signed in at least once.
    pub reachable: bool,
    /// The private conversation with them about this student, whether or not anything was said in it yet.
    pub conversation: ConversationId,
}

/// `GET /api/v1/rooms/{room}/conversations/{conversation}/messages`: messages as they stand now, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryPage {
    /// Newest first.
    pub messages: Vec<Message>,
    /// Whether there are older ones.
    pub more: bool,
}

/// `GET /api/v1/rooms/{room}/messages/{message}/reach`: whom an announcement has reached. Staff only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reach {
    /// The announcement.
    pub message: EventId,
    /// Everyone who was a guardian of the class when it was posted, by the student's name.
    pub guardians: Vec<ReachedGuardian>,
}

/// One line of a reach report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReachedGuardian {
    /// The guardian and the student through whom they are in the class.
    pub about: About,
    /// The guardian's name.
    pub guardian_name: String,
    /// The student's name.
    pub student_name: String,
    /// Stored on one of their devices.
    pub delivered: bool,
    /// Read by them.
    pub read: bool,
}

/// `POST /api/v1/sign-in/link`: uses up a one-time link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignInWithLink {
    /// The part of the link after `/i/`.
    pub secret: String,
    /// How the session is to be kept.
    #[serde(default)]
    pub keep: Keep,
}

/// `POST /api/v1/sign-in/code`: uses up a one-time code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignInWithCode {
    /// The person's sign-in name (`username` in the roster).
    pub name: String,
    /// The code's eight letters; case, blanks and hyphens don't matter.
    pub code: String,
    /// How the session is to be kept.
    #[serde(default)]
    pub keep: Keep,
}

/// How a sign-in is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// As an `HttpOnly` cookie: browsers.
    #[default]
    Cookie,
    /// As a bearer token in the answer: everything else.
    Token,
}

/// The answer to signing in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// Who is signed in.
    pub you: You,
    /// The bearer token, where one was asked for. It is shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub token: Option<String>,
    /// When it runs out, unless it is used before then.
    pub expires_at: Timestamp,
}

/// `PATCH /api/v1/me`: what a person may change of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeMe {
    /// The language they read.
    pub language: Language,
}
