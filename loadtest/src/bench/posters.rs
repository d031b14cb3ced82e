//! People who post through real sockets: teachers, each in a room of their own, or guardians of one class, each in their conversation
//! of the one room.
//!
//! Owns: a Homeroom on either engine, its sessions, and windows of measuring. Refuses to know: what the figures are compared with.
//!
//! Nobody else is connected: a delivery more for each post would be measured, and not the storing. A session may send twenty commands a
//! second, so there are as many as are needed for more than any database takes.

use crate::cast::{CastError, Ids, Place};
use crate::cluster::postgres::Postgres;
use crate::fanout::voices;
use crate::node::Node;
use crate::people;
use crate::process::Cpu;
use crate::school::{Plan, School};
use crate::store::Store;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::{About, Address, ClientFrame, ClientId, Draft, Language, Ref, codec};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

/// Sessions, where each has a room of its own.
pub const QUIET: usize = 2_000;
/// Sessions in one room: sixteen thousand posts a second at most. Each event is held against everybody's view, so the room is no larger
/// than that takes.
pub const HOT: usize = 1_000;
/// Posts under way at every moment: what two lanes hold in their transactions, and as much again that waits for the next.
const UNDER_WAY: usize = 400;
/// How soon a session posts again: sixteen times a second, below the server's limit.
const PAUSE: Duration = Duration::from_micros(62_500);
const WARM_UP: Duration = Duration::from_millis(500);
/// What is still under way does not belong to the next window.
const COOL_DOWN: Duration = Duration::from_millis(400);

/// Where Homeroom stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Sqlite,
}

/// Into which rooms they post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rooms {
    /// Teachers, each into a room of their own.
    Each,
    /// Guardians, all into the room of one class.
    One,
}

/// What a window has shown.
pub struct Window {
    /// Posts acknowledged a second.
    pub per_second: f64,
    /// From sending to the acknowledgement, in microseconds.
    pub times: Vec<u64>,
    /// This program's share of a processor.
    pub own_share: f64,
    /// What a post cost, of each.
    pub used: Used,
}

/// Processor time of all who take part, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// This program: whoever posts, or a bare writer.
    pub own: f64,
    /// Homeroom.
    pub server: f64,
    /// PostgreSQL, where there is one.
    pub database: f64,
}

impl Used {
    /// Each message's part of what was used since an earlier reading.
    pub fn since(self, earlier: Self, messages: u64) -> Self {
        let each = |now: f64, then: f64| (now - then) / messages.max(1) as f64;
        Self {
            own: each(self.own, earlier.own),
            server: each(self.server, earlier.server),
            database: each(self.database, earlier.database),
        }
    }
}

/// What the sessions share. One thread holds all of it.
struct Shared {
    active: Cell<bool>,
    wake: Notify,
    under_way: Semaphore,
    /// How soon each posts again.
    pause: Cell<Duration>,
    times: RefCell<Vec<u64>>,
    error: RefCell<Option<String>>,
}

impl Rooms {
    fn plan(self) -> Plan {
        let (classes, students) = match self {
            Self::Each => (QUIET, 1),
            Self::One => (1, HOT),
        };
        Plan { classes, teachers_per_class: 1, students, classes_per_student: 1, ..Plan::default() }
    }

    /// How many of those who can sign in, teachers first, come before those who post.
    fn silent(self) -> usize {
        match self {
            Self::Each => 0,
            Self::One => 1,
        }
    }

    /// Where those who post do so.
    fn places(self, ids: &Ids) -> Result<Vec<Place>, CastError> {
        let private = |family| {
            let (guardian, student) = (School::guardian(family), School::student(family));
            let about = About { guardian: ids.person(&guardian)?, student: ids.person(&student)? };
            Ok(Place { room: ids.room(0), to: Address::Private(about) })
        };
        match self {
            Self::Each => {
                Ok((0..QUIET).map(|class| Place { room: ids.room(class), to: Address::Announcements }).collect())
            }
            Self::One => (0..HOT).map(private).collect(),
        }
    }
}

/// A Homeroom and who posts there.
pub struct Posters {
    shared: Rc<Shared>,
    sessions: usize,
    /// PostgreSQL, where it is that; the yardstick uses it, too.
    pub postgres: Option<Postgres>,
    /// A folder for the yardstick's file, on the same disk.
    pub folder: PathBuf,
    node: Node,
    _folder: TempDir,
}

impl Posters {
    /// Makes a school, starts the server on all cores, and connects everybody.
    ///
    /// # Errors
    /// When something does not come up, or somebody can't connect.
    pub async fn open(surroundings: &Surroundings, engine: Engine, rooms: Rooms) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("homeroom-bench-").tempdir()?;
        let home = folder.path().join("node");
        std::fs::create_dir(&home)?;
        let mut node = Node::new(surroundings.server.clone(), home, None)?;
        let postgres = match engine {
            Engine::Postgres => Some(Postgres::start(folder.path()).await.map_err(crate::cluster::ClusterError::from)?),
            Engine::Sqlite => None,
        };
        if let Some(postgres) = &postgres {
            node = node.with("HOMEROOM_DATABASE_URL", &postgres.url());
        }
        let school = School::new(rooms.plan());
        let files = folder.path().join("school");
        std::fs::create_dir(&files)?;
        school.write(&files)?;
        node.import(&files).await?;
        let store = match &postgres {
            Some(postgres) => Store::postgres(&postgres.url()).await?,
            None => Store::open(&node.database()).await?,
        };
        let ids = Ids::read(&store, &school).await?;
        let signed_in = people::write_in(&store, &ids, &school.people()).await?;
        let places = rooms.places(&ids)?;
        store.close().await;
        node.start().await?;
        let shared = Rc::new(Shared {
            active: Cell::new(false),
            wake: Notify::new(),
            under_way: Semaphore::new(UNDER_WAY),
            pause: Cell::new(PAUSE),
            times: RefCell::default(),
            error: RefCell::default(),
        });
        let server = node.listens_on();
        let posting = &signed_in[rooms.silent()..][..places.len()];
        let connecting = posting.iter().map(|person| voices::connect(server, &person.token));
        let wires: Vec<Wire> = stream::iter(connecting).buffered(32).try_collect().await?;
        let sessions = wires.len();
        for (number, (wire, place)) in wires.into_iter().zip(places).enumerate() {
            let begins = number as f64 / sessions as f64;
            tokio::task::spawn_local(post(wire, place, begins, Rc::clone(&shared)));
        }
        let yardsticks = folder.path().to_owned();
        Ok(Self { shared, sessions, postgres, folder: yardsticks, node, _folder: folder })
    }

    /// Posts as fast as it goes for as long.
    ///
    /// # Errors
    /// When a post was refused, or a connection broke.
    pub async fn busy(&self, length: Duration) -> Result<Window, Failure> {
        self.window(PAUSE, length).await
    }

    /// Posts so many a second, evenly spaced.
    ///
    /// # Errors
    /// As for [`busy`](Self::busy).
    pub async fn paced(&self, rate: f64, length: Duration) -> Result<Window, Failure> {
        self.window(Duration::from_secs_f64(self.sessions as f64 / rate), length).await
    }

    async fn window(&self, pause: Duration, length: Duration) -> Result<Window, Failure> {
        self.shared.pause.set(pause);
        self.shared.active.set(true);
        self.shared.wake.notify_waiters();
        // Each has posted once by then, where that is soon.
        sleep(WARM_UP.max(pause.min(2 * WARM_UP))).await;
        self.shared.times.take();
        let (began, before) = (Instant::now(), self.used());
        sleep(length).await;
        let (times, took) = (self.shared.times.take(), began.elapsed());
        let after = self.used();
        let own_share = (after.own - before.own) / took.as_secs_f64() / 1e6;
        let used = after.since(before, times.len() as u64);
        self.shared.active.set(false);
        sleep(COOL_DOWN).await;
        if let Some(error) = self.shared.error.take() {
            return Err(Failure::Broken(format!("{error}\n{}", self.node.log_end())));
        }
        Ok(Window { per_second: times.len() as f64 / took.as_secs_f64(), times, own_share, used })
    }

    /// What was used so far.
    pub fn used(&self) -> Used {
        let micros = |cpu: Option<Cpu>| cpu.map_or(0.0, |cpu| cpu.total().as_secs_f64() * 1e6);
        Used {
            own: micros(Cpu::of(std::process::id())),
            server: micros(self.node.process().and_then(Cpu::of)),
            database: micros(self.postgres.as_ref().and_then(Postgres::cpu)),
        }
    }
}

impl Shared {
    async fn active(&self) {
        while !self.active.get() {
            self.wake.notified().await;
        }
    }
}

/// Somebody: posts, waits for the answer, and posts again when it is time and there is a place. `begins`: after which part of the pause
/// between two posts.
async fn post(mut wire: Wire, place: Place, begins: f64, shared: Rc<Shared>) {
    let mut reference = 0;
    let mut due = None;
    loop {
        if !shared.active.get() {
            shared.active().await;
            due = None;
        }
        let pause = shared.pause.get();
        // They begin one after the other, so that the posts of all are evenly spaced.
        let moment = *due.get_or_insert_with(|| Instant::now() + pause.mul_f64(begins));
        sleep_until(moment).await;
        let Ok(_place) = shared.under_way.acquire().await else { return };
        if !shared.active.get() {
            continue;
        }
        reference += 1;
        let sent = Instant::now();
        if let Err(error) = answered(&mut wire, &command(place, reference)).await {
            shared.error.replace(Some(error));
            return;
        }
        shared.times.borrow_mut().push(sent.elapsed().as_micros() as u64);
        // Never in a burst, whatever was waited for.
        due = Some((moment + pause).max(sent + pause / 2));
    }
}

/// Sends a command and reads until its acknowledgement; the event itself comes, too.
async fn answered(wire: &mut Wire, command: &str) -> Result<(), String> {
    wire.send(command).await.map_err(|error| format!("a connection: {error}"))?;
    loop {
        let frame = wire.next().await.map_err(|error| format!("a connection: {error}"))?;
        if frame.starts_with(br#"{"type":"ack""#) {
            return Ok(());
        }
        if frame.starts_with(br#"{"type":"error""#) {
            return Err(String::from_utf8_lossy(frame).into_owned());
        }
    }
}

/// About 300 bytes of JSON as it is stored.
fn command(Place { room, to }: Place, reference: u32) -> String {
    let text = "The trip to the museum is on Friday. Bring a packed lunch and a coat. ".repeat(3);
    let frame = ClientFrame::Post {
        reference: Ref(reference),
        room,
        client_id: ClientId::new(),
        to,
        draft: Draft { language: Language::english(), text, protected: Vec::new() },
        urgent: false,
    };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}
