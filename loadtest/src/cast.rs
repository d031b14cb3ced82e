//! Who plays in a run, and what each of them may see and say.
//!
//! Owns: deriving both from the planned school and the ids in the database, so that what the server shows is compared
//! with something that the server did not say. Refuses to know: sockets.

use crate::checker::history;
use crate::people::SignedIn;
use crate::roll::{Roll, Sight, Sights};
use crate::school::School;
use crate::store::Store;
use homeroom_protocol::{About, Address, ConversationId, PersonId, RoomId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A place where somebody may write.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// To whom.
    pub to: Address,
}

impl Place {
    /// Its conversation.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        self.to.conversation(self.room)
    }
}

/// Somebody who plays.
#[derive(Debug, Clone)]
pub struct Player {
    /// For stories.
    pub name: String,
    /// Who it is to Homeroom.
    pub person: PersonId,
    /// Their bearer token.
    pub token: String,
    /// The rooms that they are in when the run begins.
    pub rooms: Vec<RoomId>,
    /// Where they may write then.
    pub places: Vec<Place>,
    /// Whether they ever say how far they have come.
    pub marks: bool,
}

/// The ids that an import gave to a planned school.
#[derive(Debug)]
pub struct Ids {
    people: HashMap<String, PersonId>,
    /// By class.
    rooms: Vec<RoomId>,
    school_rooms: Vec<RoomId>,
}

/// Why a school can't be played with.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The database can't be read.
    #[error("the database can't be read")]
    Read(#[from] sqlx::Error),
    /// Something of the school is missing in it.
    #[error("the import lost {0}")]
    Missing(String),
    /// Somebody was signed in as somebody else.
    #[error("{0} was signed in as somebody else")]
    Mistaken(String),
}

impl Ids {
    /// Reads them.
    ///
    /// # Errors
    /// When the database can't be read, or a class is missing.
    pub async fn read(store: &Store, school: &School) -> Result<Self, CastError> {
        let by_class = store.class_rooms().await?;
        let rooms = (0..school.teachers.len())
            .map(|class| {
                let class = School::class(class);
                by_class.get(&class).copied().ok_or(CastError::Missing(class))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { people: store.people().await?, rooms, school_rooms: store.school_rooms().await? })
    }

    /// The room of a class.
    #[must_use]
    pub fn room(&self, class: usize) -> RoomId {
        self.rooms[class]
    }

    /// Whether it is a school's room.
    #[must_use]
    pub fn is_school_room(&self, room: RoomId) -> bool {
        self.school_rooms.contains(&room)
    }

    /// Who somebody is to Homeroom.
    ///
    /// # Errors
    /// When the import lost them.
    pub fn person(&self, source: &str) -> Result<PersonId, CastError> {
        self.people.get(source).copied().ok_or_else(|| CastError::Missing(source.to_owned()))
    }
}

/// What somebody is at school.
#[derive(Debug, Clone, Default)]
struct Part {
    sight: BTreeMap<RoomId, Sight>,
    places: Vec<Place>,
}

/// Everybody's part, by source id.
fn parts(school: &School, ids: &Ids) -> Result<BTreeMap<String, Part>, CastError> {
    let mut families: Vec<Vec<Place>> = vec![Vec::new(); school.teachers.len()];
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (guardian, students) in school.guardians.iter().enumerate() {
        let source = School::guardian(guardian);
        let mut sight: BTreeMap<RoomId, BTreeSet<ConversationId>> = BTreeMap::new();
        let mut places = Vec::new();
        for student in students {
            let about = About { guardian: ids.person(&source)?, student: ids.person(&School::student(*student))? };
            for class in &school.classes_of[*student] {
                let place = Place { room: ids.room(*class), to: Address::Private(about) };
                families[*class].push(place);
                places.push(place);
                sight.entry(place.room).or_default().insert(place.conversation());
            }
        }
        if !sight.is_empty() {
            sight.extend(ids.school_rooms.iter().map(|room| (*room, BTreeSet::new())));
        }
        for (room, theirs) in &mut sight {
            theirs.insert(Address::Announcements.conversation(*room));
        }
        let sight = sight.into_iter().map(|(room, theirs)| (room, Sight::Only(theirs))).collect();
        parts.insert(source, Part { sight, places });
    }
    for (class, teachers) in school.teachers.iter().enumerate() {
        let room = ids.room(class);
        for teacher in teachers {
            let part = parts.entry(teacher.clone()).or_default();
            let announce = |room| Place { room, to: Address::Announcements };
            if part.sight.is_empty() {
                part.sight.extend(ids.school_rooms.iter().map(|room| (*room, Sight::All)));
                part.places.extend(ids.school_rooms.iter().copied().map(announce));
            }
            part.sight.insert(room, Sight::All);
            part.places.push(announce(room));
            part.places.extend(&families[class]);
        }
    }
    Ok(parts)
}

/// What everybody may see by these files.
///
/// # Errors
/// When somebody is missing in the database.
pub fn sights(school: &School, ids: &Ids) -> Result<Sights, CastError> {
    parts(school, ids)?.into_iter().map(|(source, part)| Ok((ids.person(&source)?, part.sight))).collect()
}

/// Who should be where by these files.
///
/// # Errors
/// When somebody is missing in the database.
pub fn planned(school: &School, ids: &Ids) -> Result<BTreeSet<history::Place>, CastError> {
    let mut places = BTreeSet::new();
    for (class, teachers) in school.teachers.iter().enumerate() {
        for teacher in teachers {
            let person = ids.person(teacher)?;
            for room in ids.school_rooms.iter().copied().chain([ids.room(class)]) {
                places.insert(history::Place { room, person, student: None });
            }
        }
    }
    for (guardian, students) in school.guardians.iter().enumerate() {
        let person = ids.person(&School::guardian(guardian))?;
        for student in students {
            let classes = &school.classes_of[*student];
            let student = Some(ids.person(&School::student(*student))?);
            let of_school = ids.school_rooms.iter().copied().filter(|_| !classes.is_empty());
            for room in of_school.chain(classes.iter().map(|class| ids.room(*class))) {
                places.insert(history::Place { room, person, student });
            }
        }
    }
    Ok(places)
}

/// The roll when the run begins.
///
/// # Errors
/// When somebody is missing in the database.
pub fn roll(school: &School, ids: &Ids) -> Result<Roll, CastError> {
    Ok(Roll::new(sights(school, ids)?, planned(school, ids)?))
}

/// Everybody who signed in, with where they are and where they may write. The last of the guardians never says how far they have come:
/// whatever moves their marks is not their word.
///
/// # Errors
/// When somebody is missing in the database.
pub fn players(school: &School, ids: &Ids, signed_in: &[SignedIn]) -> Result<Vec<Player>, CastError> {
    let parts = parts(school, ids)?;
    let silent = school.guardians.len().checked_sub(1).map(School::guardian);
    signed_in
        .iter()
        .map(|signed_in| {
            let source = &signed_in.source;
            let part = parts.get(source).ok_or_else(|| CastError::Missing(source.clone()))?;
            let person = ids.person(source)?;
            if person != signed_in.person {
                return Err(CastError::Mistaken(source.clone()));
            }
            let rooms = part.sight.keys().copied().collect();
            let (places, token) = (part.places.clone(), signed_in.token.clone());
            let marks = Some(source) != silent.as_ref();
            Ok(Player { name: source.clone(), person, token, rooms, places, marks })
        })
        .collect()
}
