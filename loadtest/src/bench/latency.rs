//! How long a delivery takes, counted from the commit.
//!
//! Owns: what "from the commit" means for a client that can't see one. Refuses to know: the shape of a crowd.
//!
//! The yardstick stores nothing: its latency goes from the moment at which a message was due to each reader's having it. Ours goes from
//! the same moment to the same, less the time that storing took. A client sees storing only through its acknowledgement, which is a
//! whole trip (way in, and the answer's way back) longer. So from each announcement's latency is taken: the time from sending to its
//! acknowledgement, or to the first reader's having it, whatever came sooner, less what a ping and its pong take in the same window (the
//! median): that trip is ours to pay, as the yardstick's way in is.

use super::crowd::{Crowd, Ground, Over, Pair, Shape, TEXT};
use super::plot::{Axis, Curve, Plot};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::voices;
use crate::wire::Wire;
use crate::{Failure, Surroundings, bare};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// 1,650 deliveries a second.
const SHAPE: Shape =
    Shape { rooms: 30, members: 33, rate: 50.0, in_flight: None, languages: 1, text: TEXT, over: Over::Plain };
/// Between two pings: coprime to the announcements' 20 ms, so that they fall everywhere between them.
const PINGS: Duration = Duration::from_millis(33);
const MILLISECOND: f64 = 1_000.0;

/// A round's latencies, in microseconds.
struct Both {
    from_commit: Histogram<u64>,
    whole: (f64, f64),
    bare: Histogram<u64>,
    client: f64,
}

/// p50 and p99.
pub async fn latency(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let options = bare::Options { gather: false };
    let Pair { ours, bare } = Pair::open(surroundings, SHAPE, options, budget.window / 4).await?;
    let trips = Rc::new(RefCell::new(Vec::new()));
    let ground = ours.ground().ok_or(Failure::Gone)?;
    let pinger = tokio::task::spawn_local(ping(pinging(ground).await?, Rc::clone(&trips)));
    // Tails need many announcements.
    let window = budget.window * 2;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let (ours, bare) = in_turn(round, at_homeroom(&ours, &trips, window), at_bare(&bare, window)).await?;
        Ok(Both { bare, ..ours })
    })
    .await?;
    pinger.abort();
    tell(&rounds)
}

async fn pinging(ground: &Ground) -> Result<Wire, Failure> {
    let family = ground.people.families.first().ok_or(Failure::Gone)?;
    Ok(voices::connect(ground.node.listens_on(), &family.token).await?)
}

/// Pings until the connection ends, and notes how long each took.
pub async fn ping(mut wire: Wire, trips: Rc<RefCell<Vec<Duration>>>) {
    while let Ok(trip) = wire.ping().await {
        trips.borrow_mut().push(trip);
        sleep(PINGS).await;
    }
}

async fn at_homeroom(ours: &Crowd, trips: &RefCell<Vec<Duration>>, window: Duration) -> Result<Both, Failure> {
    trips.borrow_mut().clear();
    ours.field.follow();
    let figures = ours.window(window).await?;
    let mut trips = trips.take();
    trips.sort_unstable();
    let unanswered = || Failure::Broken("no ping was answered in a window".to_owned());
    let trip = trips.get(trips.len() / 2).copied().ok_or_else(unanswered)?;
    Ok(Both {
        from_commit: ours.field.since_the_commit(trip)?,
        whole: (figures.p50, figures.p99),
        bare: Histogram::new(3)?,
        client: figures.own_share / 100.0,
    })
}

async fn at_bare(bare: &Crowd, window: Duration) -> Result<Histogram<u64>, Failure> {
    bare.field.follow();
    bare.window(window).await?;
    bare.field.since_the_commit(Duration::MAX)
}

fn tell(rounds: &[Both]) -> Result<Found, Failure> {
    let client = rounds.iter().map(|both| both.client).max_by(f64::total_cmp);
    let at = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / MILLISECOND;
    let line = |name: &str, target, round: &dyn Fn(&Both) -> Round, note: &str| Line {
        name: format!("{name}, 1,650 deliveries/s, 30 × 33"),
        unit: "ms",
        yardstick: "bare epoll",
        target,
        rounds: rounds.iter().map(round).collect(),
        note: note.to_owned(),
        client,
    };
    let from_commit = |quantile| {
        move |both: &Both| Round { ours: at(&both.from_commit, quantile), yardstick: at(&both.bare, quantile) }
    };
    let lines = vec![
        line("p50 of a delivery from the commit", Target::AtMost(1.2), &from_commit(0.5), FROM_COMMIT),
        line("p99 of a delivery from the commit", Target::AtMost(1.5), &from_commit(0.99), ""),
        line(
            "p50 with the storing",
            Target::Told,
            &|both| Round { ours: both.whole.0 / MILLISECOND, yardstick: at(&both.bare, 0.5) },
            "From the moment due to the reader, everything in it. The yardstick stores nothing.",
        ),
        line(
            "p99 with the storing",
            Target::Told,
            &|both| Round { ours: both.whole.1 / MILLISECOND, yardstick: at(&both.bare, 0.99) },
            "",
        ),
    ];
    let drawn = |name: &str, of: &dyn Fn(&Both) -> &Histogram<u64>| -> Result<Curve, Failure> {
        let mut all = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for both in rounds {
            all.add(of(both)).map_err(|error| Failure::Broken(error.to_string()))?;
        }
        let shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995];
        let points = shares.map(|share| (1.0 / (1.0 - share), at(&all, share))).to_vec();
        Ok(Curve { name: name.to_owned(), points })
    };
    let plot = Plot {
        file: "latency",
        title: "Latency of a delivery, 1,650 a second".to_owned(),
        x: Axis { label: "one in so many takes longer", logarithmic: true },
        y: Axis { label: "ms", logarithmic: true },
        curves: vec![
            drawn("Homeroom, from the commit", &|both| &both.from_commit)?,
            drawn("bare epoll", &|both| &both.bare)?,
        ],
    };
    Ok(Found { lines, plots: vec![plot] })
}

const FROM_COMMIT: &str = "Counted from the moment at which a message was due (no coordinated omission), less the time in storage: from \
                           sending to the acknowledgement, or to the first delivery if that came sooner, less the trip of a ping in the \
                           same window. So ours pays for the way in, the hand-over to the worker, the fan-out and the way out.";
