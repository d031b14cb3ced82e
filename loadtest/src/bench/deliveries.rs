//! What a delivery costs.
//!
//! Owns: which crowds are measured for it, and how storing and delivering are told apart. Refuses to know: what a crowd does.

use super::crowd::{Crowd, Over, Pair, Presence, Shape, TEXT};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::figures::Figures;
use crate::{Failure, Surroundings, bare};

/// Six announcements in a row would be one after the other for either server at this rate: they are 5 ms apart.
pub const CLASSES: Shape =
    Shape { rooms: 30, members: 33, rate: 200.0, in_flight: None, languages: 1, text: TEXT, over: Over::Plain };
/// As many deliveries a second as a third of a processor carries.
const SCHOOL: Shape =
    Shape { rooms: 1, members: 1_000, rate: 25.0, in_flight: None, languages: 1, text: TEXT, over: Over::Plain };
pub const QUEUED: Shape = Shape { in_flight: Some(16), ..SCHOOL };

/// The largest room there is time for.
const LARGE: Shape = Shape { members: 5_000, rate: 5.0, ..SCHOOL };

const ONE_BY_ONE: bare::Options = bare::Options { gather: false };
const GATHERED: bare::Options = bare::Options { gather: true };

/// One round of all that is compared.
struct Both {
    ours: Figures,
    bare: Figures,
    /// Homeroom where only those are who announce, as often; not where announcements queue.
    storing: Option<Figures>,
}

impl Both {
    fn client(&self) -> f64 {
        self.ours.own_share.max(self.bare.own_share) / 100.0
    }

    fn cpu(&self) -> Round {
        Round { ours: self.ours.cpu, yardstick: self.bare.cpu }
    }

    fn user(&self) -> Round {
        Round { ours: self.ours.user_sampled, yardstick: self.bare.user_sampled }
    }

    /// A delivery's CPU without what storing its announcement costs where nobody listens.
    fn delivering(&self) -> Round {
        let storing = self
            .storing
            .as_ref()
            .map_or(f64::NAN, |storing| storing.server.as_secs_f64() * 1e6 / storing.acks.max(1) as f64);
        let rest = self.ours.server.as_secs_f64() * 1e6 - storing * self.ours.acks as f64;
        Round { ours: rest / self.ours.deliveries.max(1) as f64, yardstick: self.bare.cpu }
    }
}

/// 30 rooms of 33.
pub async fn classes(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    one_by_one(surroundings, budget, CLASSES, "30 × 33").await
}

/// One room of 1,000.
pub async fn school(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    one_by_one(surroundings, budget, SCHOOL, "1 × 1000").await
}

/// One room of 5,000.
pub async fn large(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    one_by_one(surroundings, budget, LARGE, "1 × 5000").await
}

/// Families who read in eight languages instead of one.
pub async fn languages(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let eight = Crowd::at_homeroom(surroundings, Shape { languages: 8, ..SCHOOL }, Presence::Everybody).await?;
    let one = Crowd::at_homeroom(surroundings, SCHOOL, Presence::Everybody).await?;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        in_turn(round, eight.window(budget.window), one.window(budget.window)).await
    })
    .await?;
    let line = Line {
        name: "CPU per delivery, 1 × 1000, families who read in 8 languages".to_owned(),
        unit: "µs",
        yardstick: "Homeroom, all read in one",
        target: Target::AtMost(1.15),
        rounds: rounds.iter().map(|(eight, one)| Round { ours: eight.cpu, yardstick: one.cpu }).collect(),
        note: LANGUAGES.to_owned(),
        client: rounds.iter().map(|(eight, one)| eight.own_share.max(one.own_share) / 100.0).max_by(f64::total_cmp),
    };
    Ok(vec![line].into())
}

/// One room of 1,000 with 16 announcements under way.
pub async fn queued(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let rounds = measure(surroundings, budget, QUEUED, GATHERED).await?;
    let line = Line {
        name: "CPU per delivery, 1 × 1000, 16 in flight".to_owned(),
        unit: "µs",
        yardstick: "bare epoll that gathers",
        target: Target::AtMost(1.5),
        rounds: rounds.iter().map(Both::cpu).collect(),
        note: "Everything on: the CPU of storing is part of ours.".to_owned(),
        client: most(&rounds),
    };
    Ok(vec![line].into())
}

async fn one_by_one(surroundings: &Surroundings, budget: &Budget, shape: Shape, size: &str) -> Result<Found, Failure> {
    let rounds = measure(surroundings, budget, shape, ONE_BY_ONE).await?;
    let of = |round: fn(&Both) -> Round| rounds.iter().map(round).collect::<Vec<_>>();
    let client = most(&rounds);
    let line = |name: &str, target, rounds, note: String| Line {
        name: format!("{name}, {size}, one at a time"),
        unit: "µs",
        yardstick: "bare epoll",
        target,
        rounds,
        note,
        client,
    };
    let lines = vec![
        line(
            "CPU per delivery",
            Target::AtMost(1.15),
            of(Both::cpu),
            format!(
                "{} announcements a second to both, evenly spaced. Everything on: deciding, committing and acknowledging each \
                 announcement is part of ours; the yardstick stores nothing.",
                shape.rate
            ),
        ),
        line("its part in user space", Target::OursAtMost(1.2), of(Both::user), SAMPLED.to_owned()),
        line("the same without the storing", Target::Told, of(Both::delivering), WITHOUT.to_owned()),
    ];
    Ok(lines.into())
}

/// The largest share of its processor that the client took in any round.
fn most(rounds: &[Both]) -> Option<f64> {
    rounds.iter().map(Both::client).max_by(f64::total_cmp)
}

const LANGUAGES: &str = "What there is today: each family's language is known, and every reader gets the same frame, the original with \
                         its language and direction. There is no translator yet, so this shows that knowing eight languages costs \
                         nothing, and not what eight translated frames of one message would cost.";
const SAMPLED: &str = "The kernel tells user space from its own part only by samples, some hundreds a second, and in \
                       hundredths of a second: single rounds are coarse.";
const WITHOUT: &str = "Ours less what an announcement costs in a second Homeroom with the same school, at the same rate, in the same \
                       rounds, where nobody but the authors is connected: what remains is the fan-out.";

/// Rounds of all that is compared.
async fn measure(
    surroundings: &Surroundings,
    budget: &Budget,
    shape: Shape,
    options: bare::Options,
) -> Result<Vec<Both>, Failure> {
    let Pair { ours, bare } = Pair::open(surroundings, shape, options, budget.window / 4).await?;
    let storing = match shape.in_flight {
        Some(_) => None,
        None => Some(Crowd::at_homeroom(surroundings, shape, Presence::TeachersOnly).await?),
    };
    let store = async || match &storing {
        Some(storing) => storing.window(budget.window).await.map(Some),
        None => Ok(None),
    };
    let beside = async || Ok((bare.window(budget.window).await?, store().await?));
    rounds(surroundings, budget.rounds, async |round| {
        let (ours, (bare, storing)) = in_turn(round, ours.window(budget.window), beside()).await?;
        Ok(Both { ours, bare, storing })
    })
    .await
}
