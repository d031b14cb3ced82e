//! What nodes do for others: hearing what was said elsewhere, and marks. `docs/scale.toml` reckons with it.
//!
//! Owns: posts and marks at one node, rooms at the other one in which nobody may see them, and what both cost there. Refuses to know: how
//! long it takes.

use super::bus::Bare;
use super::cores::Cores;
use super::crowd::{COOL_DOWN, Crowd, Over, Shape, TEXT, WARM_UP};
use super::nodes::Two;
use super::turns::{in_turn, rounds};
use super::usage::{Usage, Used};
use super::{Budget, Found, Line, Round, Target};
use crate::bare::redis::Load;
use crate::cast::Place;
use crate::fanout::field::{Field, Kind};
use crate::fanout::voices::{self, Pace, Says};
use crate::node::Node;
use crate::school::Plan;
use crate::{Failure, Surroundings, bare, storm};
use homeroom_protocol::Address;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// A second's marks of a room travel in one message: with a room for each who marks, none is spared.
const ROOMS: usize = 300;
/// Posts, and marks, a second over all rooms.
const RATE: f64 = 300.0;
/// Until what was collected for a second is stored and told.
const COLLECTED: Duration = Duration::from_millis(1_300);
/// A window of marks, at least: what was collected is stored once a second, so a shorter one may hold none of it.
const MARKING: Duration = Duration::from_secs(4);
/// Announcements of each room at once: a lane takes what 32 teachers say.
const AT_ONCE: u32 = 20;
/// The length of a mark as others are told it.
const MARK_BYTES: usize = 190;

/// What the other node must have heard of what was said: some of it is still on its way at the end of a window, and posts into one room may
/// share a transaction.
const ALL: f64 = 0.8;

/// CPU of one post or mark, in microseconds.
struct Costs {
    hearing_post: f64,
    hearing_mark: f64,
    mark: f64,
    client: f64,
}

/// What the yardsticks cost.
struct Yardsticks {
    listening: f64,
    repeating: f64,
    client: f64,
}

struct Homeroom {
    /// Guardians who write to the staff.
    posts: Rc<Field>,
    /// Others who say how far they have come.
    marks: Rc<Field>,
    /// Who is at the other node: nobody who may hear any of it.
    elsewhere: Rc<Field>,
    /// This node, and the other one.
    nodes: [u32; 2],
}

/// CPU of a node that hears, and of a mark.
pub async fn hearing(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let plan =
        Plan { classes: ROOMS, teachers_per_class: 1, students: 3 * ROOMS, classes_per_student: 1, ..Plan::default() };
    let two = Two::open(surroundings, plan).await?;
    let found = measure(surroundings, budget, &two).await;
    two.close().await?;
    found
}

async fn measure(surroundings: &Surroundings, budget: &Budget, two: &Two) -> Result<Found, Failure> {
    let (here, _) = two.here_and_there()?;
    // Each marks once a second, two marks for each announcement.
    let marks = f64::from(budget.rounds + 1) * (budget.window.max(MARKING) + 2 * COLLECTED).as_secs_f64();
    for _ in 0..(marks / 2.0 / f64::from(AT_ONCE)).ceil() as u32 {
        storm::announce(AT_ONCE, &two.people.rooms, &two.people.teachers, here.listens_on()).await?;
    }
    let ours = Homeroom::gather(two).await?;
    let mut listening = Bare::start().await?;
    let shape =
        Shape { rooms: ROOMS, members: 1, rate: RATE, in_flight: None, languages: 1, text: TEXT, over: Over::Plain };
    let repeating = Crowd::at_bare(surroundings, shape, bare::Options { gather: false }).await?;
    repeating.field.frame_bytes.set(MARK_BYTES);
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let load = Load { rate: RATE, length: budget.window, bytes: ours.posts.frame_bytes.get() };
        let yardsticks = async {
            let listening = listening.hearing(load).await?;
            let repeating = repeating.window(budget.window).await?;
            let repeated = repeating.server.as_secs_f64() * 1e6 / repeating.acks.max(1) as f64;
            Ok(Yardsticks { listening, repeating: repeated, client: repeating.own_share / 100.0 })
        };
        in_turn(round, ours.costs(two, budget.window), yardsticks).await
    })
    .await?;
    Ok(tell(&rounds).into())
}

impl Homeroom {
    async fn gather(two: &Two) -> Result<Self, Failure> {
        let (here, there) = two.here_and_there()?;
        let (author, other) = (here.process().ok_or(Failure::Gone)?, there.process().ok_or(Failure::Gone)?);
        let people = &two.people;
        let posts = Rc::new(Field::new(Kind::Homeroom, author, None));
        let marks = Rc::new(Field::new(Kind::Homeroom, author, None));
        let others = Rc::new(Field::new(Kind::Homeroom, other, None));
        let pace = Pace { teachers: ROOMS, rate: RATE, text: TEXT };
        for room in 0..ROOMS {
            // Students go round the classes: three of each, with a family for each part.
            let [poster, marker, elsewhere] = [0, 1, 2].map(|part| part * ROOMS + room);
            let (id, about) = (people.rooms[room], people.about[poster]);
            let staff = voices::connect(here.door(), &people.teachers[room].token).await?;
            tokio::task::spawn_local(voices::listen(staff, Rc::clone(&posts)));
            let says = Says::Post(Place { room: id, to: Address::Private(about) });
            let wire = voices::connect(here.door(), &people.families[poster].token).await?;
            tokio::task::spawn_local(voices::teach(wire, says, room, pace, Rc::clone(&posts)));
            let wire = voices::connect(here.door(), &people.families[marker].token).await?;
            tokio::task::spawn_local(voices::teach(wire, Says::Marks(id), room, pace, Rc::clone(&marks)));
            let wire = voices::connect(there.door(), &people.families[elsewhere].token).await?;
            tokio::task::spawn_local(voices::listen(wire, Rc::clone(&others)));
        }
        Ok(Self { posts, marks, elsewhere: others, nodes: [author, other] })
    }

    async fn costs(&self, two: &Two, length: Duration) -> Result<Costs, Failure> {
        let (_, there) = two.here_and_there()?;
        let quiet = Usage::of(self.nodes)?;
        sleep(length / 2).await;
        let quiet = quiet.until_now()?;
        let (posts, posting) = self.window(there, &self.posts, (WARM_UP, COOL_DOWN), length).await?;
        let (marks, marking) = self.window(there, &self.marks, (COLLECTED, COLLECTED), length.max(MARKING)).await?;
        let [_, hearing_post] = posting.more_than(&quiet).map(|a_second| a_second * posting.seconds / posts);
        let [mark, hearing_mark] = marking.more_than(&quiet).map(|a_second| a_second * marking.seconds / marks);
        Ok(Costs { hearing_post, hearing_mark, mark, client: posting.client.max(marking.client) })
    }

    /// Acknowledgements while a field is active, and what both nodes use.
    async fn window(
        &self,
        there: &Node,
        field: &Field,
        (before, after): (Duration, Duration),
        length: Duration,
    ) -> Result<(f64, Used<2>), Failure> {
        field.begin();
        sleep(before).await;
        let heard = async || there.metric("homeroom_bus_heard_total").await.ok_or(Failure::Gone);
        let (heard_before, done, usage) = (heard().await?, field.reading()?.acks, Usage::of(self.nodes)?);
        sleep(length).await;
        let (used, done) = (usage.until_now()?, (field.reading()?.acks - done) as f64);
        let heard = heard().await? - heard_before;
        field.end();
        sleep(after).await;
        if let Some((error, times)) = field.errors.borrow().first_key_value() {
            return Err(Failure::Broken(format!("{times} × {error}")));
        }
        if self.elsewhere.reading()?.deliveries > 0 {
            return Err(Failure::breach("somebody heard a private message of others"));
        }
        // Fewer would be cheaper, and not what is told.
        if done == 0.0 || heard < done * ALL {
            return Err(Failure::Broken(format!("the other node heard {heard} news of {done}")));
        }
        Ok((done, used))
    }
}

fn tell(rounds: &[(Costs, Yardsticks)]) -> Vec<Line> {
    let client = rounds.iter().map(|(ours, theirs)| ours.client.max(theirs.client)).max_by(f64::total_cmp);
    let line = |name: &str, yardstick, ours: fn(&Costs) -> f64, theirs: fn(&Yardsticks) -> f64, note: &str| Line {
        name: name.to_owned(),
        unit: "µs",
        yardstick,
        target: Target::Told,
        rounds: rounds.iter().map(|(costs, bare)| Round { ours: ours(costs), yardstick: theirs(bare) }).collect(),
        note: note.to_owned(),
        client,
    };
    let listening = |yardsticks: &Yardsticks| yardsticks.listening;
    vec![
        line(
            "CPU of hearing what was said at another node",
            "a bare listener",
            |costs| costs.hearing_post,
            listening,
            "Private messages, 300 a second into as many rooms, in each of which one is there who may not see them: all is done but \
             writing to sockets. What is used in quiet is taken off.",
        ),
        line(
            "CPU of hearing a mark of another node",
            "a bare listener",
            |costs| costs.hearing_mark,
            listening,
            "300 marks a second in as many rooms: none shares its message with another.",
        ),
        line(
            "CPU of a mark",
            "bare epoll, repeated to two",
            |costs| costs.mark,
            |yardsticks| yardsticks.repeating,
            "At the node that takes it, stores it in PostgreSQL within a second, acknowledges it, tells the other node, and tells a teacher; \
             PostgreSQL's own CPU is not in it.",
        ),
    ]
}
