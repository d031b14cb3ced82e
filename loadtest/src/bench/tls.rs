//! What TLS in the server adds, beside Homeroom without it.
//!
//! Owns: the same crowds at two servers, of which one speaks TLS. Refuses to know: what crowds do, and how TLS is spoken.

use super::crowd::{Crowd, Ground, Over, Presence, Shape};
use super::deliveries::{CLASSES, QUEUED};
use super::idle::{Grown, Guests, plan};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::{Failure, Surroundings};

/// Connections to each of the two in all. A handshake costs this program's core as much as the server's.
const MOST: usize = 4_000;
const PLAIN: &str = "Homeroom without TLS";

/// CPU per delivery, memory, and coming back.
pub async fn tls(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let one_by_one = "CPU per delivery in TLS, 30 × 33, one at a time";
    let queued = "CPU per delivery in TLS, 1 × 1000, 16 in flight";
    let mut lines = vec![
        deliveries(surroundings, budget, one_by_one, CLASSES).await?,
        deliveries(surroundings, budget, queued, QUEUED).await?,
    ];
    lines.extend(connections(surroundings, budget).await?);
    Ok(lines.into())
}

async fn deliveries(surroundings: &Surroundings, budget: &Budget, name: &str, shape: Shape) -> Result<Line, Failure> {
    let encrypted = Shape { over: Over::Tls, ..shape };
    let encrypted = Crowd::at_homeroom(surroundings, encrypted, Presence::Everybody).await?;
    let plain = Crowd::at_homeroom(surroundings, shape, Presence::Everybody).await?;
    encrypted.window(budget.window / 4).await?;
    plain.window(budget.window / 4).await?;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        in_turn(round, encrypted.window(budget.window), plain.window(budget.window)).await
    })
    .await?;
    Ok(Line {
        name: name.to_owned(),
        unit: "µs",
        yardstick: PLAIN,
        target: Target::Told,
        rounds: rounds.iter().map(|(tls, plain)| Round { ours: tls.cpu, yardstick: plain.cpu }).collect(),
        note: "TLS 1.3 in the binary (rustls with ring); the storing is part of both.".to_owned(),
        client: rounds.iter().map(|(tls, plain)| tls.own_share.max(plain.own_share) / 100.0).max_by(f64::total_cmp),
    })
}

async fn connections(surroundings: &Surroundings, budget: &Budget) -> Result<[Line; 2], Failure> {
    let chunk = MOST / (budget.rounds as usize + 1);
    let encrypted = Guests::of(Ground::open(surroundings, plan(MOST), 1, Over::Tls).await?).await?;
    let plain = Guests::of(Ground::open(surroundings, plan(MOST), 1, Over::Plain).await?).await?;
    let mut wires = Vec::new();
    // The first one is what a server sets up once.
    let mut rounds = rounds(surroundings, budget.rounds + 1, async |round| {
        let begin = round as usize * chunk;
        let families = begin..begin + chunk;
        let (encrypted, plain) = in_turn(round, encrypted.come(families.clone()), plain.come(families)).await?;
        wires.extend(encrypted.0);
        wires.extend(plain.0);
        Ok((encrypted.1, plain.1))
    })
    .await?;
    rounds.remove(0);
    let client = rounds.iter().map(|(tls, plain)| tls.client.max(plain.client)).max_by(f64::total_cmp);
    let line = |name: &str, unit, of: fn(&Grown) -> f64, note: &str| Line {
        name: name.to_owned(),
        unit,
        yardstick: PLAIN,
        target: Target::Told,
        rounds: rounds.iter().map(|(tls, plain)| Round { ours: of(tls), yardstick: of(plain) }).collect(),
        note: note.to_owned(),
        client,
    };
    Ok([
        line("memory of an idle connection in TLS with six rooms", "bytes", |grown| grown.bytes, ""),
        line(
            "CPU of coming back in TLS into six rooms, nothing missed",
            "µs",
            |grown| grown.cpu,
            "With the whole handshake: no client takes up an earlier session. The certificate's key is ECDSA on P-256.",
        ),
    ])
}
