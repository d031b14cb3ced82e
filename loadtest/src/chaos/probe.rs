//! Staff at each node, who say something in each room when they are asked, to see how long an answer takes.
//!
//! Owns: their lines to the nodes, past the balancer, and writing down what was said and answered. Refuses to know: what is broken
//! meanwhile.

use crate::Failure;
use crate::cast::{Place, Player};
use crate::checker::Invariant;
use crate::checker::history::{Listening, Record, Saying};
use crate::diary::{Clock, Diary};
use futures_util::future::{join_all, try_join_all};
use homeroom_client::{Address, Client, Draft, Language, Options, Post, ServerAddress, Update};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// How long a line may take to be there.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// One person who announces in one room.
#[derive(Debug, Clone)]
struct Announcer {
    player: Player,
    place: Place,
    /// One for each node.
    diaries: Vec<Diary>,
}

/// All of them.
#[derive(Debug)]
pub struct Probes {
    announcers: Vec<Announcer>,
    said: u64,
}

impl Probes {
    /// One for each room in which one of these may announce.
    pub fn new(players: &[Player], nodes: usize, clock: Clock) -> Self {
        let mut announcers: Vec<Announcer> = Vec::new();
        for player in players {
            for place in player.places.iter().filter(|place| place.to == Address::Announcements) {
                if announcers.iter().any(|other| other.place.room == place.room) {
                    continue;
                }
                let name = |node: usize| format!("{} (probe at node {})", player.name, node + 1);
                let diary = |node| Diary::new(name(node), player.person, Listening::NotAtAll, clock);
                let diaries: Vec<Diary> = (0..nodes).map(diary).collect();
                diaries.iter().for_each(|diary| diary.standing().quiet = true);
                announcers.push(Announcer { player: player.clone(), place: *place, diaries });
            }
        }
        Self { announcers, said: 0 }
    }

    /// What they write down.
    pub fn diaries(&self) -> impl Iterator<Item = Diary> + '_ {
        self.announcers.iter().flat_map(|announcer| announcer.diaries.iter().cloned())
    }

    /// Lines to these nodes, by number, for each room.
    ///
    /// # Errors
    /// When a node does not answer.
    pub async fn open(&self, nodes: &[(usize, ServerAddress)]) -> Result<Lines, Failure> {
        let lines = self.announcers.iter().flat_map(|announcer| {
            nodes.iter().map(|(node, address)| Line::open(announcer, announcer.diaries[*node].clone(), address.clone()))
        });
        Ok(Lines(try_join_all(lines).await?))
    }

    /// Says something on every line; the longest time until an answer.
    ///
    /// # Errors
    /// When an answer does not come in time.
    pub async fn ask(&mut self, lines: &Lines, within: Duration) -> Result<Duration, Failure> {
        self.said += 1;
        let asked = lines.0.iter().map(|line| line.ask(self.said, within));
        let mut longest = Duration::ZERO;
        for took in join_all(asked).await {
            longest = longest.max(took?);
        }
        Ok(longest)
    }
}

/// Lines to some nodes. They end when they are dropped.
#[derive(Debug)]
pub struct Lines(Vec<Line>);

#[derive(Debug)]
struct Line {
    client: Client,
    place: Place,
    diary: Diary,
    listening: AbortHandle,
}

impl Line {
    async fn open(announcer: &Announcer, diary: Diary, address: ServerAddress) -> Result<Self, Failure> {
        let (client, mut updates) = Client::start(Options::new(address, announcer.player.token.clone()))?;
        let welcome = async {
            while let Some(update) = updates.recv().await {
                if matches!(update, Update::Welcome(_)) {
                    return true;
                }
            }
            false
        };
        if !timeout(OPEN_WITHIN, welcome).await.unwrap_or(false) {
            return Err(Failure::Broken(format!("{} could not come", announcer.player.name)));
        }
        // Ends with the line.
        let listening = tokio::spawn(async move { while updates.recv().await.is_some() {} }).abort_handle();
        Ok(Self { client, place: announcer.place, diary, listening })
    }

    async fn ask(&self, number: u64, within: Duration) -> Result<Duration, Failure> {
        let (room, to) = (self.place.room, self.place.to);
        let conversation = self.place.conversation();
        let text = format!("{} asks {number}", self.diary.history().name);
        let draft = Draft { language: Language::english(), text: text.clone(), protected: Vec::new() };
        let began = Instant::now();
        let failed = |error: &dyn std::error::Error| Failure::Broken(format!("a probe: {error}"));
        let sending =
            self.client.post(Post { room, to, draft, urgent: false }).await.map_err(|error| failed(&error))?;
        let client_id = sending.client_id();
        self.diary.note(Record::Said { client_id, room, conversation, saying: Saying::Post { text } });
        let Ok(answer) = timeout(within, sending).await else {
            let name = self.diary.history().name.clone();
            let story = format!("{name} was not answered for {:.1} s in room {room}", within.as_secs_f64());
            return Err(Failure::Breach { invariants: [Invariant::Repaired].into(), story });
        };
        let receipt = answer.map_err(|error| failed(&error))?;
        self.diary.note(Record::Acked { client_id, id: receipt.id, n: receipt.n });
        self.diary.acked((room, conversation), receipt.id, receipt.n);
        Ok(began.elapsed())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
