//! The JSON Schema of the frames, for those who write clients by machine.
//!
//! Owns: which types are roots. Refuses to know: how it is served.

use crate::frame::{ClientFrame, ServerFrame};

/// The schemas of what a client may say and what a server answers.
#[must_use]
pub fn schema() -> serde_json::Value {
    serde_json::json!({
        "client": schemars::schema_for!(ClientFrame),
        "server": schemars::schema_for!(ServerFrame),
    })
}
