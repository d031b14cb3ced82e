//! What a delivery costs, and how long it takes.
//!
//! Owns: rooms full of thin clients, teachers who post at a fixed rate or with so many under way, and the figures.
//! Refuses to know: what is right to deliver (see `kill` and its checker).
//!
//! Latency is counted from the moment at which a message *should* have been sent, not from when it was: a server that
//! stalls is charged for everything that had to wait (no coordinated omission).

use crate::cast::Ids;
use crate::node::Node;
use crate::people::{self, SignedIn};
use crate::process::{Cpu, resident};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use homeroom_protocol::{Address, ClientFrame, ClientId, Draft, Language, Ref, RoomId, codec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Commands a second that one teacher may send, below the server's limit of 20.
const TEACHER_RATE: f64 = 16.0;

/// How much of the time belongs to coming up to speed.
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
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Announcements a second, over all rooms, evenly spaced.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Instead of a rate: so many announcements under way at every moment.
    #[arg(long)]
    in_flight: Option<usize>,
    /// Length of a text, in characters.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(30..=8_000))]
    text: u32,
}

/// What the clients have seen. One thread holds all of it.
struct Seen {
    origin: Instant,
    deliveries: Cell<u64>,
    acks: Cell<u64>,
    errors: RefCell<BTreeMap<String, u64>>,
    /// In microseconds; only while measuring.
    latency: RefCell<Option<Histogram<u64>>>,
    under_way: Semaphore,
}

impl Seen {
    fn error(&self, what: impl Into<String>) {
        *self.errors.borrow_mut().entry(what.into()).or_default() += 1;
    }
}

/// Runs it and prints the figures.
///
/// # Errors
/// When the run could not be made.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    LocalSet::new().run_until(Box::pin(measure(options, surroundings))).await
}

async fn measure(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let rooms = options.rooms as usize;
    let families = (options.members * options.rooms / options.rooms_each.min(options.rooms)).max(1) as usize;
    let needed = match options.in_flight {
        // Under way at once, a teacher sends as fast as it may.
        Some(_) => 64_usize.div_ceil(rooms),
        None => (options.rate / rooms as f64 / TEACHER_RATE).ceil().max(1.0) as usize,
    };
    let school = School::new(Plan {
        classes: rooms,
        teachers_per_class: needed,
        students: families,
        classes_per_student: options.rooms_each.min(options.rooms) as usize,
        second_guardian_every: 0,
        sibling_every: 0,
    });
    let folder = tempfile::Builder::new().prefix("homeroom-fanout-").tempdir()?;
    let files = folder.path().join("school");
    std::fs::create_dir(&files)?;
    school.write(&files)?;
    let mut node = Node::new(surroundings.server.clone(), folder.path().to_owned(), surroundings.server_core)?;
    node.import(&files).await?;
    node.start().await?;
    let sources = school.people();
    let bar = surroundings.bar(sources.len() as u64, "signing in");
    let signed_in = people::sign_in(&node, &sources, &bar).await?;
    bar.finish_and_clear();
    let ids = Ids::read(&Store::open(&node.database()).await?, &school).await?;

    let address: SocketAddr = node.listens_on();
    let process = node.process().ok_or(Failure::Gone)?;
    let seen = Rc::new(Seen {
        origin: Instant::now(),
        deliveries: Cell::default(),
        acks: Cell::default(),
        errors: RefCell::default(),
        latency: RefCell::default(),
        under_way: Semaphore::new(options.in_flight.unwrap_or(0)),
    });
    let (teachers, guardians) = signed_in.split_at(rooms * needed);
    let empty = resident(process).ok_or(Failure::Gone)?;
    let joining = (Instant::now(), Cpu::of(process).ok_or(Failure::Gone)?);
    let bar = surroundings.bar(guardians.len() as u64, "connecting");
    let wires: Vec<Wire> = stream::iter(guardians)
        .map(|guardian| async {
            let wire = connect(address, guardian).await;
            bar.inc(1);
            wire
        })
        .buffer_unordered(32)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let joined = (joining.0.elapsed(), Cpu::of(process).ok_or(Failure::Gone)?.since(joining.1));
    let full = resident(process).ok_or(Failure::Gone)?;
    let connections = wires.len();
    println!("{rooms} rooms, {connections} families in {} each, {} teachers", options.rooms_each, teachers.len());
    println!(
        "memory: {:.1} MB empty, {:.1} MB full, {:.0} bytes a connection",
        empty as f64 / 1e6,
        full as f64 / 1e6,
        full.saturating_sub(empty) as f64 / connections as f64
    );
    println!(
        "joining: {:.0}/s, {:.0} µs of the server's CPU each",
        connections as f64 / joined.0.as_secs_f64(),
        joined.1.total().as_micros() as f64 / connections as f64
    );
    for wire in wires {
        tokio::task::spawn_local(listen(wire, Rc::clone(&seen)));
    }
    for (place, teacher) in teachers.iter().enumerate() {
        let wire = connect(address, teacher).await?;
        let room = ids.room(place / needed);
        tokio::task::spawn_local(teach(wire, room, place, teachers.len(), options.clone(), Rc::clone(&seen)));
    }

    sleep(WARM_UP).await;
    let before = Reading::take(process, &seen)?;
    seen.latency.replace(Some(Histogram::new_with_bounds(1, 60_000_000, 3)?));
    let bar = surroundings.bar(options.seconds, "measuring");
    for _ in 0..options.seconds {
        sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let after = Reading::take(process, &seen)?;
    let latency = seen.latency.take();
    node.stop().await?;
    report(&before, &after, latency.as_ref(), &seen);
    Ok(())
}

/// Connects, says hello, and waits until all rooms are caught up.
async fn connect(server: SocketAddr, person: &SignedIn) -> io::Result<Wire> {
    let up = async {
        let mut wire = Wire::open(server).await?;
        let hello = ClientFrame::Hello { token: Some(person.token.clone()), positions: BTreeMap::new() };
        wire.send(&codec::encode_client(&hello).map_err(io::Error::other)?).await?;
        let mut rooms = None;
        let mut caught_up = 0;
        while rooms != Some(caught_up) {
            match codec::decode_server(&String::from_utf8_lossy(wire.next().await?)).map_err(io::Error::other)? {
                homeroom_protocol::ServerFrame::Welcome { rooms: theirs, .. } => rooms = Some(theirs.len()),
                homeroom_protocol::ServerFrame::CaughtUp { .. } => caught_up += 1,
                _ => {}
            }
        }
        Ok(wire)
    };
    timeout(Duration::from_secs(30), Box::pin(up)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Hears, and counts.
async fn listen(mut wire: Wire, seen: Rc<Seen>) {
    loop {
        match wire.next().await {
            Ok(frame) => hear(frame, &seen),
            Err(error) => return seen.error(format!("a family's connection: {error}")),
        }
    }
}

fn hear(frame: &[u8], seen: &Seen) {
    // The text begins with the moment at which it should have been sent, between two tildes.
    let mut parts = frame.split(|byte| *byte == b'~');
    let (Some(_), Some(moment)) = (parts.next(), parts.next()) else { return };
    seen.deliveries.set(seen.deliveries.get() + 1);
    if let Some(latency) = seen.latency.borrow_mut().as_mut() {
        let sent: u64 = std::str::from_utf8(moment).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let now = seen.origin.elapsed().as_micros() as u64;
        latency.saturating_record(now.saturating_sub(sent));
    }
}

/// Posts: at the teacher's share of the rate, or as soon as there is a place under way.
async fn teach(mut wire: Wire, room: RoomId, place: usize, teachers: usize, options: Options, seen: Rc<Seen>) {
    let pace = match options.in_flight {
        Some(_) => Duration::from_secs_f64(1.0 / TEACHER_RATE),
        None => Duration::from_secs_f64(teachers as f64 / options.rate),
    };
    // Teachers begin one after the other, so that the messages of all are evenly spaced.
    let mut due = Instant::now() + pace.mul_f64(place as f64 / teachers as f64);
    let mut reference = 0;
    let mut waiting = false;
    loop {
        let permit = tokio::select! {
            frame = wire.next() => match frame {
                Ok(frame) if frame.starts_with(br#"{"type":"ack""#) => {
                    seen.acks.set(seen.acks.get() + 1);
                    if std::mem::take(&mut waiting) {
                        seen.under_way.add_permits(1);
                    }
                    continue;
                }
                Ok(frame) if frame.starts_with(br#"{"type":"error""#) => {
                    seen.error(String::from_utf8_lossy(frame).chars().take(120).collect::<String>());
                    if std::mem::take(&mut waiting) {
                        seen.under_way.add_permits(1);
                    }
                    continue;
                }
                Ok(frame) => {
                    hear(frame, &seen);
                    continue;
                }
                Err(error) => return seen.error(format!("a teacher's connection: {error}")),
            },
            permit = turn(due, &seen, options.in_flight.is_some()), if !waiting => permit,
        };
        let now = Instant::now();
        let should = match permit {
            Some(permit) => {
                permit.forget();
                waiting = true;
                now
            }
            None => due,
        };
        due = if waiting { now + pace } else { due + pace };
        reference += 1;
        let frame = announcement(room, reference, should - seen.origin, options.text as usize);
        if let Err(error) = wire.send(&frame).await {
            return seen.error(format!("a teacher's connection: {error}"));
        }
    }
}

/// When it is time, and (with a number under way) when there is a place.
async fn turn(due: Instant, seen: &Seen, places: bool) -> Option<tokio::sync::SemaphorePermit<'_>> {
    sleep_until(due).await;
    if places { seen.under_way.acquire().await.ok() } else { None }
}

fn announcement(room: RoomId, reference: u32, should: Duration, length: usize) -> String {
    let text = format!("~{}~", should.as_micros());
    let text = format!("{text}{}", "The trip to the museum is on Friday. ".repeat(length / 37 + 1));
    let draft =
        Draft { language: Language::english(), text: text.chars().take(length).collect(), protected: Vec::new() };
    let frame = ClientFrame::Post {
        reference: Ref(reference),
        room,
        client_id: ClientId::new(),
        to: Address::Announcements,
        draft,
        urgent: false,
    };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}

struct Reading {
    at: Instant,
    server: Cpu,
    own: Cpu,
    deliveries: u64,
    acks: u64,
}

impl Reading {
    fn take(process: u32, seen: &Seen) -> Result<Self, Failure> {
        Ok(Self {
            at: Instant::now(),
            server: Cpu::of(process).ok_or(Failure::Gone)?,
            own: Cpu::of(std::process::id()).ok_or(Failure::Gone)?,
            deliveries: seen.deliveries.get(),
            acks: seen.acks.get(),
        })
    }
}

fn report(before: &Reading, after: &Reading, latency: Option<&Histogram<u64>>, seen: &Seen) {
    let seconds = (after.at - before.at).as_secs_f64();
    let deliveries = after.deliveries - before.deliveries;
    let (server, own) = (after.server.since(before.server), after.own.since(before.own));
    let each = |time: Duration| time.as_micros() as f64 / deliveries.max(1) as f64;
    println!("announcements: {:.1} acknowledged/s", (after.acks - before.acks) as f64 / seconds);
    println!("deliveries: {:.0}/s", deliveries as f64 / seconds);
    println!(
        "server: {:.0} % of a core, {:.2} µs a delivery ({:.2} user, {:.2} system)",
        server.total().as_secs_f64() / seconds * 100.0,
        each(server.total()),
        each(server.user),
        each(server.system)
    );
    if let Some(latency) = latency {
        let milliseconds = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        println!(
            "latency from the moment due: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(0.999),
            latency.max() as f64 / 1_000.0
        );
    }
    let share = own.total().as_secs_f64() / seconds * 100.0;
    println!("this client: {share:.0} % of a core");
    if share > 90.0 {
        println!("THE CLIENT WAS THE LIMIT: the rates and latencies above are its own");
    }
    for (error, times) in &*seen.errors.borrow() {
        println!("{times} × {error}");
    }
}
