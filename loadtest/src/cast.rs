//! Who plays in a run, and what each of them may see and say.
//!
//! Owns: deriving both from the planned school and the ids in the database, so that what the server shows is compared
//! with something that the server did not say. Refuses to know: sockets.

use crate::checker::history::Sight;
use crate::people::SignedIn;
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
    /// What they may see.
    pub sight: BTreeMap<RoomId, Sight>,
    /// Where they may write.
    pub places: Vec<Place>,
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

    /// Who somebody is to Homeroom.
    ///
    /// # Errors
    /// When the import lost them.
    pub fn person(&self, source: &str) -> Result<PersonId, CastError> {
        self.people.get(source).copied().ok_or_else(|| CastError::Missing(source.to_owned()))
    }
}

/// Everybody who signed in, with what they may see and where they may write.
///
/// # Errors
/// When somebody is missing in the database.
pub fn players(school: &School, ids: &Ids, signed_in: &[SignedIn]) -> Result<Vec<Player>, CastError> {
    let mut families: Vec<Vec<Place>> = vec![Vec::new(); school.teachers.len()];
    let mut guardians = Vec::new();
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
        for room in ids.school_rooms.iter().copied() {
            sight.entry(room).or_default();
        }
        for (room, theirs) in &mut sight {
            theirs.insert(Address::Announcements.conversation(*room));
        }
        let sight = sight.into_iter().map(|(room, theirs)| (room, Sight::Only(theirs))).collect();
        guardians.push((source, sight, places));
    }
    let mut roles: HashMap<String, (BTreeMap<RoomId, Sight>, Vec<Place>)> = HashMap::new();
    for (class, teachers) in school.teachers.iter().enumerate() {
        let room = ids.room(class);
        for teacher in teachers {
            let mut places = vec![Place { room, to: Address::Announcements }];
            places.extend(&families[class]);
            let mut sight = BTreeMap::from([(room, Sight::All)]);
            sight.extend(ids.school_rooms.iter().map(|room| (*room, Sight::All)));
            roles.insert(teacher.clone(), (sight, places));
        }
    }
    roles.extend(guardians.into_iter().map(|(source, sight, places)| (source, (sight, places))));
    signed_in
        .iter()
        .map(|signed_in| {
            let (sight, places) =
                roles.get(&signed_in.source).cloned().ok_or_else(|| CastError::Missing(signed_in.source.clone()))?;
            let person = ids.person(&signed_in.source)?;
            if person != signed_in.person {
                return Err(CastError::Mistaken(signed_in.source.clone()));
            }
            Ok(Player { name: signed_in.source.clone(), person, token: signed_in.token.clone(), sight, places })
        })
        .collect()
}
