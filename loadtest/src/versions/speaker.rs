//! Somebody at one node, word for word: what a node says is compared as it travels, not as a client reads it.
//!
//! Owns: one session, its refs, and what came while an answer was waited for. Refuses to know: what the frames mean.

use crate::Failure;
use crate::wire::Wire;
use homeroom_protocol::RoomId;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How long a node may be silent while something is due.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session.
pub struct Speaker {
    wire: Wire,
    next_ref: u32,
    passed_over: VecDeque<Value>,
}

impl Speaker {
    /// Signs in and goes on from a position; gives also what came until all of it was there.
    ///
    /// # Errors
    /// When the node does not answer, or wants the room to begin anew.
    pub async fn resume(
        node: SocketAddr,
        token: &str,
        room: RoomId,
        position: &Value,
    ) -> Result<(Self, Vec<Value>), Failure> {
        let mut speaker = Self { wire: Wire::open(node).await?, next_ref: 0, passed_over: VecDeque::new() };
        let hello = json!({ "type": "hello", "token": token, "positions": { room.to_string(): position } });
        speaker.wire.send(&hello.to_string()).await?;
        let mut missed = Vec::new();
        loop {
            let frame = speaker.hear().await?;
            let here = frame["room"] == json!(room);
            match frame["type"].as_str() {
                Some("event") if here => missed.push(frame),
                Some("caught_up") if here => return Ok((speaker, missed)),
                Some("reset") => return Err(Failure::breach(format!("a position is not known any more: {frame}"))),
                _ => {}
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection ends, or nothing comes.
    pub async fn hear(&mut self) -> Result<Value, Failure> {
        match self.passed_over.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    /// The next event; other frames are passed over.
    ///
    /// # Errors
    /// As for [`Speaker::hear`].
    pub async fn event(&mut self) -> Result<Value, Failure> {
        loop {
            let frame = self.hear().await?;
            if frame["type"] == "event" {
                return Ok(frame);
            }
        }
    }

    /// Says a command and gives its answer; waits when it is told to.
    ///
    /// # Errors
    /// As for [`Speaker::hear`].
    pub async fn ask(&mut self, mut command: Value) -> Result<Value, Failure> {
        loop {
            self.next_ref += 1;
            command["ref"] = json!(self.next_ref);
            self.wire.send(&command.to_string()).await?;
            let answer = loop {
                let frame = self.read().await?;
                if frame["ref"] == command["ref"] {
                    break frame;
                }
                self.passed_over.push_back(frame);
            };
            match answer["retry_after_ms"].as_u64() {
                Some(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
                None => return Ok(answer),
            }
        }
    }

    async fn read(&mut self) -> Result<Value, Failure> {
        let silent = |_| Failure::breach("a node says nothing where something is due".to_owned());
        let text = timeout(PATIENCE, self.wire.next()).await.map_err(silent)??;
        serde_json::from_slice(text).map_err(|error| Failure::Broken(format!("a frame is not JSON: {error}")))
    }
}
