//! The plain mode: JSON lines for scripts.
//!
//! Owns: finding a place by its title, saying, listing, tailing. Refuses to know: terminals.

use crate::ChatError;
use crate::kept::Kept;
use crate::place::{self, Place};
use homeroom_client::{Client, ConversationId, Draft, Http, Post, SendError, Stop, Update, Updates};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use tokio::time::timeout;

/// Lists all places.
pub async fn rooms(http: &Http) -> Result<(), ChatError> {
    for place in places(http).await? {
        print(&json!({
            "title": place.title, "room": place.room, "conversation": place.conversation(),
            "to": place.address, "unread": place.unread,
        }))?;
    }
    Ok(())
}

/// Says something and waits until the server has it.
pub async fn say(
    http: &Http,
    client: &Client,
    mut updates: Updates,
    target: &str,
    text: &str,
    wait: u64,
) -> Result<(), ChatError> {
    let place = find(&places(http).await?, target)?;
    let language = http.me().await?.language;
    let draft = Draft { language, text: text.to_owned(), protected: Vec::new() };
    let sending = client.post(Post { room: place.room, to: place.address, draft, urgent: false }).await?;
    // A client goes on only while its updates are taken.
    let taking = async {
        while let Some(update) = updates.recv().await {
            if let Update::Stopped(Stop::SignedOut | Stop::TurnedAway { .. }) = update {
                return ChatError::SignedOut;
            }
        }
        ChatError::Send(SendError::Stopped)
    };
    let receipt = tokio::select! {
        sent = timeout(Duration::from_secs(wait), sending) => sent.map_err(|_| ChatError::NotYet(wait))??,
        error = taking => return Err(error),
    };
    print(&json!({ "type": "acked", "client_id": receipt.client_id, "id": receipt.id, "n": receipt.n }))
}

/// Prints what happens, until it is stopped. Where it stopped is kept after what was printed, so that a crash repeats
/// rather than loses.
pub async fn tail(client: &Client, mut updates: Updates, kept: &Kept) -> Result<(), ChatError> {
    loop {
        let update = tokio::select! {
            update = updates.recv() => update,
            _ = tokio::signal::ctrl_c() => {
                client.close().await;
                return Ok(());
            }
        };
        let Some(update) = update else { return Ok(()) };
        let moves = matches!(
            update,
            Update::Welcome(_) | Update::Event(_) | Update::Reset { .. } | Update::Joined(_) | Update::Left(_)
        );
        print(&as_json(&update))?;
        if moves {
            kept.save_progress(updates.progress())?;
        }
        if matches!(update, Update::Stopped(Stop::SignedOut | Stop::TurnedAway { .. })) {
            return Err(ChatError::SignedOut);
        }
    }
}

async fn places(http: &Http) -> Result<Vec<Place>, ChatError> {
    let home = http.home().await?;
    let mut places = Vec::new();
    for summary in &home.rooms {
        let detail = http.room(summary.room).await?;
        places.extend(place::places(&detail, &home.you));
    }
    Ok(places)
}

/// The place with this conversation id or this title, or the only one whose title holds the text.
fn find(places: &[Place], target: &str) -> Result<Place, ChatError> {
    if let Ok(id) = target.parse::<ConversationId>()
        && let Some(place) = places.iter().find(|place| place.conversation() == id)
    {
        return Ok(place.clone());
    }
    let wanted = target.to_lowercase();
    let writable = places.iter().filter(|place| place.may_write);
    let title = |place: &Place| place.title.to_lowercase();
    if let Some(place) = writable.clone().find(|place| title(place) == wanted) {
        return Ok(place.clone());
    }
    let mut matching = writable.filter(|place| title(place).contains(&wanted));
    match (matching.next(), matching.next()) {
        (None, _) => Err(ChatError::NoSuchPlace(target.to_owned())),
        (Some(place), None) => Ok(place.clone()),
        (Some(first), Some(second)) => {
            let titles: Vec<&str> =
                [first, second].into_iter().chain(matching).map(|place| place.title.as_str()).collect();
            Err(ChatError::Ambiguous(target.to_owned(), titles.join("\n")))
        }
    }
}

/// An update as one JSON object.
fn as_json(update: &Update) -> Value {
    match update {
        Update::Welcome(welcome) => {
            json!({ "type": "welcome", "server": welcome.server, "you": welcome.you, "rooms": welcome.rooms })
        }
        Update::Event(event) => {
            let mut value = json!(event);
            value["type"] = "event".into();
            value
        }
        Update::CaughtUp(room) => json!({ "type": "caught_up", "room": room }),
        Update::Reset { room, position, reason } => {
            json!({ "type": "reset", "room": room, "position": position, "reason": reason })
        }
        Update::Joined(room) => json!({ "type": "joined", "room": room }),
        Update::Left(room) => json!({ "type": "left", "room": room }),
        Update::Mark { room, conversation, mark } => {
            json!({ "type": "mark", "room": room, "conversation": conversation, "mark": mark })
        }
        Update::Typing { room, conversation, person } => {
            json!({ "type": "typing", "room": room, "conversation": conversation, "person": person })
        }
        Update::Acked(receipt) => {
            json!({ "type": "acked", "client_id": receipt.client_id, "id": receipt.id, "n": receipt.n })
        }
        Update::Refused { client_id, fault } => json!({ "type": "refused", "client_id": client_id, "fault": fault }),
        Update::Fault(fault) => json!({ "type": "fault", "fault": fault }),
        Update::Bye { reason, reconnect_after } => {
            json!({ "type": "bye", "reason": reason, "reconnect_after_ms": reconnect_after.as_millis() as u64 })
        }
        Update::Disconnected { loss, will_retry_in } => {
            json!({ "type": "disconnected", "loss": format!("{loss:?}"), "will_retry_in_ms": will_retry_in.as_millis() as u64 })
        }
        Update::Anomaly(anomaly) => json!({ "type": "anomaly", "what": anomaly.to_string() }),
        Update::Stopped(stop) => json!({ "type": "stopped", "why": format!("{stop:?}") }),
    }
}

fn print(value: &Value) -> Result<(), ChatError> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use homeroom_client::{Address, RoomId, RoomKind};

    fn place(title: &str) -> Place {
        Place {
            title: title.into(),
            room: RoomId::new(),
            kind: RoomKind::Class,
            address: Address::Announcements,
            may_write: true,
            unread: 0,
        }
    }

    #[test]
    fn places_are_found_by_title_or_id() {
        let places = [place("4B · announcements"), place("4B · Li Na about Wei"), place("4C · announcements")];
        assert_eq!(find(&places, "li na").unwrap().title, places[1].title);
        assert_eq!(find(&places, "4C · Announcements").unwrap().title, places[2].title);
        let id = places[0].conversation().to_string();
        assert_eq!(find(&places, &id).unwrap().title, places[0].title);
        assert!(matches!(find(&places, "announcements"), Err(ChatError::Ambiguous(..))));
        assert!(matches!(find(&places, "5A"), Err(ChatError::NoSuchPlace(_))));
    }
}
