//! Ten thousand who come back at once.
//!
//! Owns: rounds of all going and all coming back, at Homeroom (with an announcement missed in every class; to a server that stayed, and
//! to one that was just started) and at a bare server.
//! Refuses to know: clusters; `homeroom-loadtest storm` kills a node of one.

use super::crowd::Ground;
use super::turns::{in_turn, rounds};
use super::usage::{Usage, Used};
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::voices;
use crate::node::Bare;
use crate::people::SignedIn;
use crate::school::Plan;
use crate::storm::{self, Positions};
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const FAMILIES: usize = 10_000;
/// Each in five classes of 33, and in the school's room.
const CLASSES_EACH: usize = 5;
const CLASSES: usize = FAMILIES * CLASSES_EACH / 33;
/// Each storm takes many seconds with all that belongs to it: no more rounds than an interval needs.
const ROUNDS: u32 = 6;
/// How long the server may take to see that all are gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What they come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The server that they left: what they missed is in its memory.
    Same,
    /// One that has just been started on the same data: it knows of no room.
    Restarted,
}

/// Both of Homeroom's, and the bare server's.
struct Storms {
    same: Storm,
    restarted: Storm,
    bare: Storm,
}

/// Which of Homeroom's.
type Which = fn(&Storms) -> &Storm;

/// One storm.
struct Storm {
    seconds: f64,
    pages: f64,
    /// CPU each, in microseconds.
    cpu: f64,
    client: f64,
}

/// Until the last is caught up.
pub async fn storm(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let plan = Plan {
        classes: CLASSES,
        teachers_per_class: 1,
        students: FAMILIES,
        classes_per_student: CLASSES_EACH,
        ..Plan::default()
    };
    let (mut ground, bare) = Ground::beside_bare(surroundings, plan, 1).await?;
    let bar = surroundings.bar(FAMILIES as u64, "connecting");
    let server = ground.node.listens_on();
    let mut positions = stream::iter(&ground.people.families)
        .map(|family| async {
            let joined = storm::join(server, &family.token, Positions::new()).await;
            bar.inc(1);
            joined.map(|joined| joined.positions)
        })
        .buffered(64)
        .try_collect::<Vec<_>>()
        .await?;
    bar.finish_and_clear();
    // Not counted: a server that was started for the import, and nothing was said there yet, is neither of the two.
    at_homeroom(&mut ground, &mut positions, To::Same).await?;
    let rounds = rounds(surroundings, budget.rounds.min(ROUNDS), async |round| {
        let ours = async {
            let same = at_homeroom(&mut ground, &mut positions, To::Same).await?;
            Ok((same, at_homeroom(&mut ground, &mut positions, To::Restarted).await?))
        };
        let ((same, restarted), bare) = in_turn(round, ours, at_bare(&bare)).await?;
        Ok(Storms { same, restarted, bare })
    })
    .await?;
    Ok(tell(&rounds).into())
}

async fn at_homeroom(ground: &mut Ground, positions: &mut [Positions], to: To) -> Result<Storm, Failure> {
    let node = &mut ground.node;
    let empty = async {
        while node.metric("homeroom_connections").await.ok_or(Failure::Gone)? > 0.0 {
            sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, Failure>(())
    };
    timeout(GONE_WITHIN, empty).await.map_err(|_| Failure::Broken("the server keeps who is gone".to_owned()))??;
    storm::announce(1, &ground.people.rooms, &ground.people.teachers, node.listens_on()).await?;
    if to == To::Restarted {
        node.kill().await?;
        node.start().await?;
    }
    let process = node.process().ok_or(Failure::Gone)?;
    let metric = async |name| node.metric(name).await.ok_or(Failure::Gone);
    let pages = metric("homeroom_pages_read_total").await?;
    let before = Usage::of([process])?;
    let backs = storm::come_back(node.listens_on(), &ground.people.families, positions.to_vec()).await?;
    let used = before.until_now()?;
    let pages = metric("homeroom_pages_read_total").await? - pages;
    if let Some(wrong) = backs.iter().find(|back| back.heard != CLASSES_EACH) {
        return Err(Failure::breach(format!("{} events came instead of {CLASSES_EACH}", wrong.heard)));
    }
    let seconds = backs.iter().map(|back| back.took.as_secs_f64()).fold(0.0, f64::max);
    renew(node.listens_on(), &ground.people.families, positions).await?;
    Ok(Storm { seconds, pages: pages / (CLASSES + 1) as f64, cpu: each(&used), client: used.client })
}

/// Where everybody stands now, as one family of each class is told.
async fn renew(
    server: std::net::SocketAddr,
    families: &[SignedIn],
    positions: &mut [Positions],
) -> Result<(), Failure> {
    // Neighbours in the list are in neighbouring classes: every fifth of one round of classes has been in all of them.
    let known = stream::iter(families.iter().take(CLASSES + CLASSES_EACH).step_by(CLASSES_EACH))
        .map(|family| storm::join(server, &family.token, Positions::new()))
        .buffer_unordered(64)
        .try_fold(BTreeMap::new(), |mut known: Positions, joined| async move {
            known.extend(joined.positions);
            Ok(known)
        })
        .await?;
    for theirs in positions {
        for (room, position) in theirs {
            *position = known.get(room).copied().ok_or(Failure::Gone)?;
        }
    }
    Ok(())
}

async fn at_bare(bare: &Bare) -> Result<Storm, Failure> {
    let process = bare.process().ok_or(Failure::Gone)?;
    let (before, began) = (Usage::of([process])?, Instant::now());
    let coming = (0..FAMILIES).map(|member| voices::join(bare.listens_on(), (member % CLASSES) as u32));
    let wires: Vec<Wire> = try_join_all(coming).await?;
    let seconds = began.elapsed().as_secs_f64();
    let used = before.until_now()?;
    drop(wires);
    // It takes its leave of them before the next round begins.
    sleep(Duration::from_secs(1)).await;
    Ok(Storm { seconds, pages: 0.0, cpu: each(&used), client: used.client })
}

fn each(used: &Used<1>) -> f64 {
    used.cpu[0] / FAMILIES as f64
}

fn tell(rounds: &[Storms]) -> Vec<Line> {
    let of = |ours: Which, figure: fn(&Storm) -> f64| {
        rounds.iter().map(|storms| Round { ours: figure(ours(storms)), yardstick: figure(&storms.bare) }).collect()
    };
    let of_all = rounds.iter().flat_map(|storms| [&storms.same, &storms.restarted, &storms.bare]);
    let client = of_all.map(|storm| storm.client).max_by(f64::total_cmp);
    let line = |name: &str, unit, target, rounds, note: String| Line {
        name: name.to_owned(),
        unit,
        yardstick: "bare epoll",
        target,
        rounds,
        note,
        client,
    };
    let same: Which = |storms| &storms.same;
    let restarted: Which = |storms| &storms.restarted;
    vec![
        line(
            "10,000 reconnects at once, until the last is caught up",
            "s",
            Target::OursAtMost(4.0),
            of(same, |storm| storm.seconds),
            format!(
                "Each in six rooms, with an announcement missed in five of them; {CLASSES} classes; no back-off, on SQLite, the server on \
                 one processor. The yardstick's join one room and miss nothing."
            ),
        ),
        line(
            "pages read per room in it",
            "pages",
            Target::OursAtMost(0.999),
            of(same, |storm| storm.pages),
            "Less than one; the reads of signing in apart. The yardstick has no pages.".to_owned(),
        ),
        line("CPU of each in it", "µs", Target::Told, of(same, |storm| storm.cpu), String::new()),
        line(
            "the same to a server that was just started",
            "s",
            Target::OursAtMost(4.0),
            of(restarted, |storm| storm.seconds),
            "The server was killed after the announcements; counted from its being ready. The yardstick goes on.".to_owned(),
        ),
        line(
            "pages read per room in it",
            "pages",
            Target::Told,
            of(restarted, |storm| storm.pages),
            "Nothing is in its memory: whoever comes first has the last page of each room read, and the other 32 share it.".to_owned(),
        ),
        line("CPU of each in it", "µs", Target::Told, of(restarted, |storm| storm.cpu), String::new()),
    ]
}
