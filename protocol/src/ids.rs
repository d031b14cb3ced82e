//! Ids as newtypes, so that swapping a class for a person does not compile.
//!
//! Owns: the id types and how they look on the wire (a lower-case hyphenated UUID).
//! Refuses to know: what the ids stand for in a database.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, type = "string"))]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, in the order of time (UUID version 7).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }
    };
}

id!(
    /// A tenant: one or more schools that share people.
    DistrictId
);
id!(
    /// A school of a district.
    SchoolId
);
id!(
    /// A teaching group from the roster.
    ClassId
);
id!(
    /// A class's (or school's) live group, and its log.
    RoomId
);
id!(
    /// Anybody: staff, guardian or student.
    PersonId
);
id!(
    /// A thread inside a room. Derived from its room and [`Address`](crate::Address), so that two nodes, and a client
    /// that has not yet heard of it, name it alike.
    ConversationId
);
id!(
    /// One entry of a room's log. The id of a message is the id of the event that posted it.
    EventId
);
id!(
    /// Made by the client for each command that appends; the same (author, client id) always gets the same answer.
    ClientId
);
id!(
    /// One WebSocket connection.
    SessionId
);

/// Chosen by the client for each command, repeated by its `ack`, `page` or `error`. One command in flight per ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, type = "number"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Ref(pub u32);
