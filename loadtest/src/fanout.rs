//! What a delivery costs, and how long it takes.
//!
//! Owns: the order of a run: a school, a server, a crowd, windows of measuring, and (to compare) a bare server measured
//! in turn with Homeroom. Refuses to know: how a crowd behaves (`field`, `voices`), and what is right to deliver (`kill`).

pub mod field;
pub mod figures;
pub mod voices;

use self::field::{Field, Kind};
use self::figures::Figures;
use crate::bare;
use crate::cast::Ids;
use crate::node::{Bare, Node};
use crate::people::{self, SignedIn};
use crate::process::{Cpu, resident};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

/// How much of each window belongs to coming up to speed.
const WARM_UP: Duration = Duration::from_secs(2);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rooms.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rooms: u32,
    /// Families in each room; each is one connection.
    #[arg(long, default_value_t = 33, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    members: u32,
    /// In how many of the rooms each family is (their child's classes).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    rooms_each: u32,
    /// How long a window of measuring is, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Announcements a second, over all rooms, evenly spaced.
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    rate: f64,
    /// Instead of a rate: so many announcements under way at every moment.
    #[arg(long)]
    in_flight: Option<usize>,
    /// Length of a text, in characters.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(40..=8_000))]
    text: u32,
    /// Measure a bare server in turn with Homeroom, so many windows each, and tell the ratio of the medians.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50))]
    compare: u32,
    #[command(flatten)]
    bare: bare::Options,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number of announcements a second".to_owned())?;
    if (0.1..=100_000.0).contains(&rate) { Ok(rate) } else { Err("between 0.1 and 100000".to_owned()) }
}

/// Runs it and prints the figures.
///
/// # Errors
/// When the run could not be made.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    LocalSet::new().run_until(Box::pin(measure(options, surroundings))).await
}

async fn measure(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("homeroom-fanout-").tempdir()?;
    let mut node = Node::new(surroundings.server.clone(), folder.path().to_owned(), surroundings.server_core)?;
    let homeroom = gather(options, surroundings, &mut node, folder.path()).await?;
    let mut bare_process = None;
    let bare = if options.compare > 0 {
        let bare = Bare::start(options.bare, surroundings.server_core).await?;
        let field = gather_bare(options, &bare).await?;
        bare_process = Some(bare);
        Some(field)
    } else {
        None
    };
    let mut figures = (Vec::new(), Vec::new());
    for round in 1..=options.compare.max(1) {
        figures.0.push(window(options, surroundings, &homeroom, round).await?);
        if let Some(bare) = &bare {
            // The same bytes on the wire.
            bare.frame_bytes.set(homeroom.frame_bytes.get());
            figures.1.push(window(options, surroundings, bare, round).await?);
        }
    }
    node.stop().await?;
    drop(bare_process);
    if !figures.1.is_empty() {
        Figures::compare(&figures.0, &figures.1);
    }
    Ok(())
}

fn teachers_per_room(options: &Options) -> usize {
    let rooms = options.rooms as usize;
    match options.in_flight {
        // Under way at once, a teacher sends as fast as it may.
        Some(_) => 64_usize.div_ceil(rooms),
        None => (options.rate / rooms as f64 / voices::TEACHER_RATE).ceil().max(1.0) as usize,
    }
}

/// Makes the school, starts the server, and connects everybody.
async fn gather(
    options: &Options,
    surroundings: &Surroundings,
    node: &mut Node,
    folder: &std::path::Path,
) -> Result<Rc<Field>, Failure> {
    let (rooms, needed) = (options.rooms as usize, teachers_per_room(options));
    let rooms_each = options.rooms_each.min(options.rooms);
    let school = School::new(Plan {
        classes: rooms,
        teachers_per_class: needed,
        students: (options.members * options.rooms / rooms_each).max(1) as usize,
        classes_per_student: rooms_each as usize,
        ..Plan::default()
    });
    let files = folder.join("school");
    std::fs::create_dir(&files)?;
    school.write(&files)?;
    node.import(&files).await?;
    let store = Store::open(&node.database()).await?;
    let ids = Ids::read(&store, &school).await?;
    let signed_in = people::write_in(&store, &ids, &school.people()).await?;
    drop(store);
    node.start().await?;

    let process = node.process().ok_or(Failure::Gone)?;
    let field = Rc::new(Field::new(Kind::Homeroom, process, options.in_flight));
    let (teachers, guardians) = signed_in.split_at(rooms * needed);
    // What a server sets up once is there after the first fifth; the rest shows what a connection costs.
    let (first, rest) = guardians.split_at(guardians.len() / 5);
    let bar = surroundings.bar(guardians.len() as u64, "connecting");
    let before = resident(process).ok_or(Failure::Gone)?;
    let mut wires = connect_all(node.listens_on(), first, &bar).await?;
    let empty = resident(process).ok_or(Failure::Gone)?;
    let joining = (Instant::now(), Cpu::of(process).ok_or(Failure::Gone)?);
    wires.extend(connect_all(node.listens_on(), rest, &bar).await?);
    bar.finish_and_clear();
    let took = joining.0.elapsed();
    let cpu = Cpu::of(process).ok_or(Failure::Gone)?.since(joining.1);
    let full = resident(process).ok_or(Failure::Gone)?;
    let counted = rest.len() as f64;
    println!("{rooms} rooms, {} families in {rooms_each} each, {} teachers", wires.len(), teachers.len());
    println!(
        "memory: {:.1} MB alone, {:.1} MB with all, {:.0} bytes an idle connection",
        before as f64 / 1e6,
        full as f64 / 1e6,
        full.saturating_sub(empty) as f64 / counted
    );
    println!(
        "joining: {:.0}/s, {:.0} µs of the server's CPU each",
        counted / took.as_secs_f64(),
        cpu.total().as_micros() as f64 / counted
    );
    for wire in wires {
        tokio::task::spawn_local(voices::listen(wire, Rc::clone(&field)));
    }
    let pace = voices::Pace { teachers: teachers.len(), rate: options.rate, text: options.text as usize };
    for (place, teacher) in teachers.iter().enumerate() {
        let wire = voices::connect(node.listens_on(), &teacher.token).await?;
        let says = voices::Says::announcements(ids.room(place / needed));
        tokio::task::spawn_local(voices::teach(wire, says, place, pace, Rc::clone(&field)));
    }
    Ok(field)
}

async fn connect_all(server: SocketAddr, people: &[SignedIn], bar: &ProgressBar) -> io::Result<Vec<Wire>> {
    stream::iter(people)
        .map(|person| async {
            let wire = voices::connect(server, &person.token).await;
            bar.inc(1);
            wire
        })
        .buffer_unordered(32)
        .try_collect()
        .await
}

/// The same crowd at the bare server.
async fn gather_bare(options: &Options, bare: &Bare) -> Result<Rc<Field>, Failure> {
    let (rooms, needed) = (options.rooms, teachers_per_room(options));
    let field = Rc::new(Field::new(Kind::Bare, bare.process().ok_or(Failure::Gone)?, options.in_flight));
    for member in 0..options.members * rooms {
        let wire = voices::join(bare.listens_on(), member % rooms).await?;
        tokio::task::spawn_local(voices::listen(wire, Rc::clone(&field)));
    }
    let teachers = rooms as usize * needed;
    let pace = voices::Pace { teachers, rate: options.rate, text: options.text as usize };
    for place in 0..teachers {
        let wire = voices::join(bare.listens_on(), (place / needed) as u32).await?;
        let says = voices::Says::announcements(homeroom_protocol::RoomId::default());
        tokio::task::spawn_local(voices::teach(wire, says, place, pace, Rc::clone(&field)));
    }
    Ok(field)
}

/// One window of measuring.
async fn window(
    options: &Options,
    surroundings: &Surroundings,
    field: &Rc<Field>,
    round: u32,
) -> Result<Figures, Failure> {
    field.begin();
    sleep(WARM_UP).await;
    let before = field.reading()?;
    field.measure_latency()?;
    let bar = surroundings.bar(options.seconds, "measuring");
    for _ in 0..options.seconds {
        sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let after = field.reading()?;
    let latency = field.end();
    // What is still under way does not belong to the next window.
    sleep(Duration::from_millis(500)).await;
    let figures = Figures::new(&before, &after, latency);
    figures.print(field, round);
    Ok(figures)
}
