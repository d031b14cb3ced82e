//! One who reads too slowly, among a thousand.
//!
//! Owns: letting one connection read nothing, and comparing what the others feel with and without it. Refuses to know: what the
//! server does with it.

use super::crowd::{Crowd, Over, Presence, Shape};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::figures::Figures;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use homeroom_protocol::{Address, ClientFrame, Ref, RoomId, codec};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Texts are long, so that what waits for somebody who does not read is soon too much.
const SHAPE: Shape =
    Shape { rooms: 1, members: 1_000, rate: 20.0, in_flight: None, languages: 1, text: 4_000, over: Over::Plain };
/// From the slow one's arrival to the measuring: its socket is full by then, and announcements go on meanwhile.
const FILLS: Duration = Duration::from_secs(3);

/// Between two of its questions: as often as the server's limit of commands allows.
const ASKS: Duration = Duration::from_millis(60);

/// The others' p99 with it and without it.
pub async fn slow(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let crowd = Crowd::at_homeroom(surroundings, SHAPE, Presence::Everybody).await?;
    crowd.window(budget.window / 4).await?;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        in_turn(round, with_slow_one(&crowd, budget.window), crowd.window(budget.window)).await
    })
    .await?;
    let ground = crowd.ground().ok_or(Failure::Gone)?;
    let behind = ground.node.metric("homeroom_fell_behind_total").await.ok_or(Failure::Gone)?;
    if behind < f64::from(budget.rounds) {
        let story = format!("in {} rounds the slow reader was only {behind} times behind", budget.rounds);
        return Err(Failure::Broken(story));
    }
    let line = |name: &str, of: fn(&Figures) -> f64| Line {
        name: format!("{name} of a thousand beside one who reads nothing"),
        unit: "ms",
        yardstick: "Homeroom, all read",
        target: Target::Told,
        rounds: rounds
            .iter()
            .map(|(with, without)| Round { ours: of(with) / 1e3, yardstick: of(without) / 1e3 })
            .collect(),
        note: String::new(),
        client: rounds
            .iter()
            .map(|(with, without)| with.own_share.max(without.own_share) / 100.0)
            .max_by(f64::total_cmp),
    };
    let note = format!(
        "Announcements of {} characters, {} a second, from the moment due. The slow one's socket was full and its session behind in every \
         round ({behind:.0} times in all).",
        SHAPE.text, SHAPE.rate
    );
    Ok(vec![Line { note, ..line("p99", |figures| figures.p99) }, line("p50", |figures| figures.p50)].into())
}

async fn with_slow_one(crowd: &Crowd, window: Duration) -> Result<Figures, Failure> {
    let ground = crowd.ground().ok_or(Failure::Gone)?;
    let family = ground.people.families.first().ok_or(Failure::Gone)?;
    let mut wire = Wire::open_narrow(ground.node.listens_on()).await?;
    let hello = ClientFrame::Hello { token: Some(family.token.clone()), positions: BTreeMap::new() };
    wire.send(&codec::encode_client(&hello).map_err(std::io::Error::other)?).await?;
    crowd.field.begin();
    fill(&mut wire, ground.people.rooms[0]).await?;
    let figures = crowd.window(window).await;
    drop(wire);
    figures
}

/// Asks for pages of history and reads none of the answers, until the way to it is full.
async fn fill(wire: &mut Wire, room: RoomId) -> std::io::Result<()> {
    let until = Instant::now() + FILLS;
    let mut reference = 0;
    while Instant::now() < until {
        reference += 1;
        let ask = ClientFrame::History {
            reference: Ref(reference),
            room,
            conversation: Address::Announcements.conversation(room),
            before: None,
            limit: None,
        };
        let ask = codec::encode_client(&ask).map_err(std::io::Error::other)?;
        // A server that does not read any more has done what was wanted.
        if timeout(ASKS, wire.send(&ask)).await.is_err() {
            break;
        }
        sleep(ASKS).await;
    }
    sleep_until(until).await;
    Ok(())
}
