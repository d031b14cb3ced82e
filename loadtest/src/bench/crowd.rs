//! The same crowd at Homeroom and at a bare server.
//!
//! Owns: making a school, starting both servers, connecting everybody, and windows of measuring. Refuses to know: what the figures
//! are compared for.

use crate::cast::{CastError, Ids};
use crate::fanout::field::{Field, Kind};
use crate::fanout::figures::Figures;
use crate::fanout::voices::{self, Says};
use crate::node::{Bare, Node};
use crate::people::{self, SignedIn};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, bare};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::{About, RoomId};
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How much of each window belongs to coming up to speed.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// What is still under way does not belong to the next window.
pub const COOL_DOWN: Duration = Duration::from_millis(300);
/// How long what was under way at a window's end may take beyond that.
const PATIENCE: Duration = Duration::from_secs(5);
/// What must have come by then of all that was acknowledged.
const COMPLETE: f64 = 0.9;
/// The length of a text, in characters: as a family would write one.
pub const TEXT: usize = 120;

/// Who is there, and how they announce.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rooms.
    pub rooms: usize,
    /// Families in each.
    pub members: usize,
    /// Announcements a second over all rooms.
    pub rate: f64,
    /// Instead of the rate: as many announcements under way at every moment.
    pub in_flight: Option<usize>,
    /// In how many languages families read.
    pub languages: usize,
    /// The length of a text, in characters.
    pub text: usize,
    /// How Homeroom is spoken to.
    pub over: Over,
}

impl Shape {
    /// Enough teachers for none of them to be held back by the limit of commands.
    fn teachers_per_room(&self) -> usize {
        match self.in_flight {
            Some(_) => 64_usize.div_ceil(self.rooms),
            None => (self.rate / self.rooms as f64 / voices::TEACHER_RATE).ceil().max(1.0) as usize,
        }
    }

    fn pace(&self) -> voices::Pace {
        voices::Pace { teachers: self.rooms * self.teachers_per_room(), rate: self.rate, text: self.text }
    }
}

/// Who of the shape is connected to Homeroom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All.
    Everybody,
    /// Only who announces: it then costs what storing costs.
    TeachersOnly,
}

/// Who can sign in, and where they are.
pub struct Everybody {
    /// Class by class.
    pub rooms: Vec<RoomId>,
    /// Class by class.
    pub teachers: Vec<SignedIn>,
    /// Student by student.
    pub families: Vec<SignedIn>,
    /// Whom each family's private conversations are about.
    pub about: Vec<About>,
}

impl Everybody {
    /// Writes their logins into the database of an imported school.
    ///
    /// # Errors
    /// When somebody is missing in it, or it can't be written.
    pub async fn sign_in(store: &Store, ids: &Ids, school: &School, plan: Plan) -> Result<Self, CastError> {
        let mut teachers = people::write_in(store, ids, &school.people()).await?;
        let families = teachers.split_off(plan.classes * plan.teachers_per_class);
        let about = |family| {
            let guardian = ids.person(&School::guardian(family))?;
            Ok(About { guardian, student: ids.person(&School::student(family))? })
        };
        let about = (0..plan.students).map(about).collect::<Result<_, CastError>>()?;
        Ok(Self { rooms: (0..plan.classes).map(|class| ids.room(class)).collect(), teachers, families, about })
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// As by default, with TLS before it or not at all.
    Plain,
    /// TLS in the server.
    Tls,
}

/// A Homeroom with the shape's school, where everybody can sign in.
pub struct Ground {
    /// The server.
    pub node: Node,
    /// Its school.
    pub people: Everybody,
    _folder: TempDir,
}

impl Ground {
    /// Makes the school and starts the server, and a bare one beside it.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn beside_bare(
        surroundings: &Surroundings,
        plan: Plan,
        languages: usize,
    ) -> Result<(Self, Bare), Failure> {
        let ground = Self::open(surroundings, plan, languages, Over::Plain).await?;
        Ok((ground, Bare::start(bare::Options { gather: false }, surroundings.server_core).await?))
    }

    /// Makes the school and starts the server.
    ///
    /// # Errors
    /// When the server does not come up.
    pub async fn open(surroundings: &Surroundings, plan: Plan, languages: usize, over: Over) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("homeroom-bench-").tempdir()?;
        let mut node = Node::new(surroundings.server.clone(), folder.path().to_owned(), surroundings.server_core)?;
        if over == Over::Tls {
            node = node.in_tls()?;
        }
        let school = School::new(plan);
        let files = folder.path().join("school");
        std::fs::create_dir(&files)?;
        school.write(&files)?;
        node.import(&files).await?;
        let store = Store::open(&node.database()).await?;
        let ids = Ids::read(&store, &school).await?;
        let people = Everybody::sign_in(&store, &ids, &school, plan).await?;
        store.read_in(&LANGUAGES[..languages]).await?;
        store.close().await;
        node.start().await?;
        Ok(Self { node, people, _folder: folder })
    }
}

/// Eight that are read in schools, with three scripts and both directions among them.
const LANGUAGES: [&str; 8] = ["en", "es", "ar", "zh-Hant", "vi", "pt-BR", "so", "ru"];

/// Who announces and who hears at one server.
pub struct Crowd {
    /// What they count.
    pub field: Rc<Field>,
    /// Who hears each announcement, its author among them.
    listeners: usize,
    /// It goes with the crowd.
    server: Server,
}

/// The same crowd at both.
pub struct Pair {
    /// At Homeroom.
    pub ours: Crowd,
    /// At a bare server.
    pub bare: Crowd,
}

impl Pair {
    /// Connects everybody to both, and lets a short window of each go by that counts for nothing.
    ///
    /// # Errors
    /// When one of them does not come up, or somebody can't connect.
    pub async fn open(
        surroundings: &Surroundings,
        shape: Shape,
        options: bare::Options,
        short: Duration,
    ) -> Result<Self, Failure> {
        let ours = Crowd::at_homeroom(surroundings, shape, Presence::Everybody).await?;
        let bare = Crowd::at_bare(surroundings, shape, options).await?;
        ours.window(short).await?;
        // The same bytes on the wire.
        bare.field.frame_bytes.set(ours.field.frame_bytes.get());
        bare.window(short).await?;
        Ok(Self { ours, bare })
    }
}

enum Server {
    Homeroom(Box<Ground>),
    Bare(#[expect(dead_code, reason = "killed when dropped")] Bare),
}

impl Crowd {
    /// At Homeroom.
    ///
    /// # Errors
    /// When it does not come up, or somebody can't connect.
    pub async fn at_homeroom(surroundings: &Surroundings, shape: Shape, everybody: Presence) -> Result<Self, Failure> {
        let needed = shape.teachers_per_room();
        let plan = Plan {
            classes: shape.rooms,
            teachers_per_class: needed,
            students: shape.members * shape.rooms,
            classes_per_student: 1,
            ..Plan::default()
        };
        let ground = Ground::open(surroundings, plan, shape.languages, shape.over).await?;
        let server = ground.node.door();
        let field = Rc::new(Field::new(Kind::Homeroom, ground.node.process().ok_or(Failure::Gone)?, shape.in_flight));
        let families = match everybody {
            Presence::Everybody => ground.people.families.len(),
            Presence::TeachersOnly => 0,
        };
        let connecting =
            ground.people.families.iter().take(families).map(|family| voices::connect(server.clone(), &family.token));
        let wires: Vec<_> = stream::iter(connecting).buffer_unordered(32).try_collect().await?;
        wires.into_iter().for_each(|wire| drop(tokio::task::spawn_local(voices::listen(wire, Rc::clone(&field)))));
        for (place, teacher) in ground.people.teachers.iter().enumerate() {
            let wire = voices::connect(server.clone(), &teacher.token).await?;
            let says = Says::announcements(ground.people.rooms[place / needed]);
            tokio::task::spawn_local(voices::teach(wire, says, place, shape.pace(), Rc::clone(&field)));
        }
        let listeners = families / shape.rooms + needed;
        Ok(Self { field, listeners, server: Server::Homeroom(Box::new(ground)) })
    }

    /// At a bare server.
    ///
    /// # Errors
    /// When it does not come up, or somebody can't connect.
    pub async fn at_bare(surroundings: &Surroundings, shape: Shape, options: bare::Options) -> Result<Self, Failure> {
        let bare = Bare::start(options, surroundings.server_core).await?;
        let (server, needed) = (bare.listens_on(), shape.teachers_per_room());
        let field = Rc::new(Field::new(Kind::Bare, bare.process().ok_or(Failure::Gone)?, shape.in_flight));
        let families = shape.members * shape.rooms;
        for member in 0..families {
            let wire = voices::join(server, (member % shape.rooms) as u32).await?;
            tokio::task::spawn_local(voices::listen(wire, Rc::clone(&field)));
        }
        for place in 0..shape.rooms * needed {
            let wire = voices::join(server, (place / needed) as u32).await?;
            let says = Says::announcements(RoomId::default());
            tokio::task::spawn_local(voices::teach(wire, says, place, shape.pace(), Rc::clone(&field)));
        }
        let listeners = shape.members + needed;
        Ok(Self { field, listeners, server: Server::Bare(bare) })
    }

    /// The school and its server, where it is Homeroom.
    pub fn ground(&self) -> Option<&Ground> {
        match &self.server {
            Server::Homeroom(ground) => Some(ground),
            Server::Bare(_) => None,
        }
    }

    /// One window of measuring.
    ///
    /// # Errors
    /// When the server is gone, or somebody's connection broke.
    pub async fn window(&self, length: Duration) -> Result<Figures, Failure> {
        window(&self.field, self.listeners, length).await
    }
}

/// One window of measuring a field in which so many hear each announcement, its author among them.
///
/// # Errors
/// When the server is gone, somebody's connection broke, or somebody does not hear.
pub async fn window(field: &Field, listeners: usize, length: Duration) -> Result<Figures, Failure> {
    field.begin();
    sleep(WARM_UP).await;
    let before = field.reading()?;
    field.measure_latency()?;
    sleep(length).await;
    let after = field.reading()?;
    let latency = field.end();
    sleep(COOL_DOWN).await;
    if let Some((error, times)) = field.errors.borrow().first_key_value() {
        return Err(Failure::Broken(format!("{times} × {error}")));
    }
    // Whoever is cut off is heard of only by what they do not hear.
    let patient = Instant::now() + PATIENCE;
    loop {
        let settled = field.reading()?;
        // Of what was under way when the window began, a part was heard before and is acknowledged only now.
        let announced = (settled.acks - before.acks).saturating_sub(field.most_under_way as u64);
        let (heard, due) = (settled.deliveries - before.deliveries, announced * listeners as u64);
        if heard as f64 >= due as f64 * COMPLETE {
            break;
        }
        if Instant::now() > patient {
            return Err(Failure::Broken(format!("{heard} deliveries of {due} that were due: somebody does not hear")));
        }
        sleep(COOL_DOWN / 10).await;
    }
    Ok(Figures::new(&before, &after, latency))
}
