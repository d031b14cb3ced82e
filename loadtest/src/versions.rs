//! Two versions at once on one PostgreSQL and one Redis: the next one knows a kind of event and a column more.
//!
//! Owns: the steps of the way there and back, and comparing word for word what nodes of both versions say. Refuses to know: load
//! (see `rolling`), and how the next version is built (the server's feature `next`).

mod speaker;

use crate::cluster::{Cluster, ClusterError};
use crate::node::{Node, NodeError};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, people};
use homeroom_protocol::{About, Address, ClientId, RoomId};
use serde_json::{Value, json};
use speaker::Speaker;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// More than a room's ring holds in memory, so that a guardian's long way back is read by conversation.
const MANY: usize = 150;

/// How it is tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The next version's binary.
    #[arg(long)]
    next: PathBuf,
}

/// Tries it.
///
/// # Errors
/// When something does not survive.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let settings = [("HOMEROOM_DRAIN_SECONDS", "1")];
    let mut cluster = Cluster::start(&surroundings.server, 2, 0, &settings).await?;
    let outcome = match Scene::set(&cluster).await {
        Ok(scene) => Box::pin(scene.play(&mut cluster, options, surroundings)).await,
        Err(failure) => Err(failure),
    };
    let stopped = cluster.stop().await;
    if outcome.is_err() {
        println!("the data and all logs stay in {}", cluster.keep().display());
    }
    outcome.and(stopped.map_err(Failure::from))
}

/// A class with a teacher and two families.
struct Scene {
    room: RoomId,
    teacher: String,
    /// The guardian who is written to in private, and the other one.
    families: [String; 2],
    private: Address,
}

/// Nothing is to be seen of what follows, if this is not so.
fn must(is_so: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if is_so { Ok(()) } else { Err(Failure::breach(what())) }
}

impl Scene {
    async fn set(cluster: &Cluster) -> Result<Self, Failure> {
        let school = School::new(Plan {
            classes: 1,
            teachers_per_class: 1,
            students: 2,
            classes_per_student: 1,
            ..Plan::default()
        });
        let (store, ids) = people::move_in(cluster, &school).await?;
        let (guardian, other) = (School::guardian(0), School::guardian(1));
        let about = About { guardian: ids.person(&guardian)?, student: ids.person(&School::student(0))? };
        let signed_in = people::write_in(&store, &ids, &[school.teachers[0][0].clone(), guardian, other]).await?;
        store.close().await;
        let mut tokens = signed_in.into_iter().map(|signed_in| signed_in.token);
        let (Some(teacher), Some(one), Some(two)) = (tokens.next(), tokens.next(), tokens.next()) else {
            return Err(Failure::Gone);
        };
        Ok(Self { room: ids.room(0), teacher, families: [one, two], private: Address::Private(about) })
    }

    async fn play(&self, cluster: &mut Cluster, options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
        let began = Instant::now();
        replace(&mut cluster.nodes[1], &options.next).await?;
        self.both_ways(cluster).await?;
        println!("{:>5.1} s  side by side: bus, bell, positions", began.elapsed().as_secs_f64());
        self.read_back(cluster).await?;
        println!("{:>5.1} s  ring, pages, history, and what changes since", began.elapsed().as_secs_f64());
        replace(&mut cluster.nodes[0], &options.next).await?;
        self.is_whole(cluster).await?;
        for node in &mut cluster.nodes {
            replace(node, &surroundings.server).await?;
        }
        self.is_whole(cluster).await?;
        println!("{:>5.1} s  all over to the next version, and all back", began.elapsed().as_secs_f64());
        contract(cluster, options).await?;
        println!(
            "{:>5.1} s  a schema that says so is refused by the old and taken by the new",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// What is said on one node is heard on both alike, by the bus and by the bell alone.
    async fn both_ways(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        let [old, new] = addresses(cluster);
        let null = Value::Null;
        let (mut teacher, _) = Speaker::resume(old, &self.teacher, self.room, &null).await?;
        let (mut newer_teacher, _) = Speaker::resume(new, &self.teacher, self.room, &null).await?;
        let (mut here, _) = Speaker::resume(old, &self.families[0], self.room, &null).await?;
        let (mut there, _) = Speaker::resume(new, &self.families[0], self.room, &null).await?;
        let first = acked(&mut teacher, self.post(Address::Announcements, "said by the old one")).await?;
        let second = acked(&mut newer_teacher, self.post(Address::Announcements, "said by the new one")).await?;
        let pinned = acked(&mut newer_teacher, self.pin(&first)).await?;
        must(pinned["n"] == 3, || format!("the pin is not number 3: {pinned}"))?;
        let refused = teacher.ask(self.pin(&first)).await?;
        must(refused["code"] == "unknown_type", || format!("the old version knows what is new: {refused}"))?;
        for n in 1..=3 {
            alike(&mut here, &mut there, n).await?;
        }
        // Of a private conversation, too; the other family must not hear of it (see `is_whole`).
        let private = acked(&mut newer_teacher, self.post(self.private, "between us")).await?;
        acked(&mut newer_teacher, self.pin(&private)).await?;
        for n in 1..=2 {
            alike(&mut here, &mut there, n).await?;
        }
        cluster.redis.kill().await;
        acked(&mut newer_teacher, self.pin(&second)).await?;
        let frame = alike(&mut here, &mut there, 4).await?;
        must(frame["kind"] == "pinned", || format!("the bell brought something else: {frame}"))?;
        acked(&mut teacher, self.post(Address::Announcements, "and on")).await?;
        alike(&mut here, &mut there, 5).await?;
        cluster.redis.run().await.map_err(ClusterError::from)?;
        // A position that the old version does not know the kind of.
        for node in [old, new] {
            let (_, missed) = Speaker::resume(node, &self.families[0], self.room, &frame["id"]).await?;
            must(missed.len() == 1 && missed[0]["n"] == 5, || format!("gone on from the pin: {missed:?}"))?;
        }
        let store = Store::postgres(&cluster.postgres.url()).await?;
        let pinned = store.pinned().await?;
        store.close().await;
        must(pinned == 3, || format!("three messages are pinned, the column says {pinned}"))
    }

    /// From memory, from pages of the log, and as history: both versions show the same, and what was changed since by the old
    /// one is not shown as it was.
    async fn read_back(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        self.is_whole(cluster).await?;
        let [old, new] = addresses(cluster);
        let (mut teacher, _) = Speaker::resume(old, &self.teacher, self.room, &Value::Null).await?;
        for number in 0..MANY {
            acked(&mut teacher, self.post(Address::Announcements, &format!("{number}"))).await?;
        }
        // Nothing in memory: it is read from the log, on the schema that it does not know all of.
        let Some(node) = cluster.nodes.first_mut() else { return Err(Failure::Gone) };
        node.stop().await.map_err(ClusterError::from)?;
        node.start().await.map_err(ClusterError::from)?;
        self.is_whole(cluster).await?;
        let conversation = Address::Announcements.conversation(self.room);
        let history = json!({ "type": "history", "room": self.room, "conversation": conversation, "before": 20 });
        let mut pages = Vec::new();
        for node in [old, new] {
            let (mut family, _) = Speaker::resume(node, &self.families[0], self.room, &Value::Null).await?;
            pages.push(family.ask(history.clone()).await?["messages"].clone());
        }
        must(pages[0] == pages[1] && pages[0].as_array().is_some_and(|page| page.len() == 17), || {
            format!("history differs: {pages:?}")
        })?;
        let (mut teacher, missed) = Speaker::resume(old, &self.teacher, self.room, &Value::Null).await?;
        let first = &missed.iter().find(|frame| frame["n"] == 1).ok_or(Failure::Gone)?["id"];
        let draft = json!({ "language": "en", "text": "changed by the old one" });
        let edit = json!({ "type": "edit", "room": self.room, "message": first, "client_id": ClientId::new(), "draft": draft });
        acked(&mut teacher, edit).await?;
        let (_, missed) = Speaker::resume(old, &self.families[0], self.room, &Value::Null).await?;
        let pin = missed.iter().find(|frame| frame["n"] == 3).ok_or(Failure::Gone)?;
        must(pin["kind"] == "unknown" && pin["message"].is_null(), || {
            format!("the old version can't know what a pin shows of a changed message: {pin}")
        })?;
        let (_, missed) = Speaker::resume(new, &self.families[0], self.room, &Value::Null).await?;
        let pin = missed.iter().find(|frame| frame["n"] == 3).ok_or(Failure::Gone)?;
        must(pin["kind"] == "pinned" && pin["message"] == *first, || format!("the new version knows it: {pin}"))
    }

    /// Everybody gets everything that is theirs from both nodes, numbered without a hole, and word for word the same where both
    /// nodes know or both do not know what they show.
    async fn is_whole(&self, cluster: &Cluster) -> Result<(), Failure> {
        for token in [&self.teacher, &self.families[0], &self.families[1]] {
            let mut heard: Vec<Vec<Value>> = Vec::new();
            for node in addresses(cluster) {
                let (_, missed) = Speaker::resume(node, token, self.room, &Value::Null).await?;
                heard.push(missed);
            }
            let known = |frames: &[Value]| -> Vec<Value> {
                frames.iter().filter(|frame| frame["kind"] != "unknown").cloned().collect()
            };
            must(heard[0].len() == heard[1].len(), || format!("{} and {} events", heard[0].len(), heard[1].len()))?;
            for (one, other) in heard[0].iter().zip(&heard[1]) {
                let same = one == other || [one, other].iter().any(|frame| frame["kind"] == "unknown");
                must(same && one["id"] == other["id"] && one["n"] == other["n"], || format!("{one}\nand {other}"))?;
            }
            must(!known(&heard[0]).is_empty(), || "nothing was heard at all".to_owned())?;
            for conversation in [Address::Announcements, self.private].map(|address| address.conversation(self.room)) {
                let theirs = heard[0].iter().filter(|frame| frame["conversation"] == json!(conversation));
                let numbers: Vec<u64> = theirs.filter_map(|frame| frame["n"].as_u64()).collect();
                let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
                must(numbers == expected, || format!("the numbers have a hole: {numbers:?}"))?;
                let is_theirs = conversation != self.private.conversation(self.room) || *token != self.families[1];
                must(numbers.is_empty() != is_theirs, || format!("somebody else's conversation: {numbers:?}"))?;
            }
        }
        Ok(())
    }

    fn post(&self, to: Address, text: &str) -> Value {
        let draft = json!({ "language": "en", "text": text });
        json!({ "type": "post", "room": self.room, "client_id": ClientId::new(), "to": to, "draft": draft })
    }

    fn pin(&self, acked: &Value) -> Value {
        json!({
            "type": "pin", "room": self.room, "client_id": ClientId::new(), "message": acked["id"],
            "until": "2027-01-31T12:00:00.000Z",
        })
    }
}

/// A command that is to be acknowledged.
async fn acked(speaker: &mut Speaker, command: Value) -> Result<Value, Failure> {
    let answer = speaker.ask(command).await?;
    must(answer["type"] == "ack", || format!("not acknowledged: {answer}"))?;
    Ok(answer)
}

/// The next event of both, which has to be the same.
async fn alike(one: &mut Speaker, other: &mut Speaker, n: u64) -> Result<Value, Failure> {
    let (here, there) = (one.event().await?, other.event().await?);
    must(here == there && here["n"] == n, || format!("number {n} differs:\n{here}\n{there}"))?;
    Ok(here)
}

fn addresses(cluster: &Cluster) -> [std::net::SocketAddr; 2] {
    [cluster.nodes[0].listens_on(), cluster.nodes[1].listens_on()]
}

async fn replace(node: &mut Node, binary: &std::path::Path) -> Result<(), Failure> {
    node.stop().await.map_err(ClusterError::from)?;
    node.becomes(binary).map_err(ClusterError::from)?;
    node.start().await.map_err(ClusterError::from)?;
    Ok(())
}

/// A later release takes away what the old version needs, and says so.
async fn contract(cluster: &mut Cluster, options: &Options) -> Result<(), Failure> {
    let store = Store::postgres(&cluster.postgres.url()).await?;
    store.require_newest().await?;
    store.close().await;
    let Some(node) = cluster.nodes.first_mut() else { return Err(Failure::Gone) };
    node.stop().await.map_err(ClusterError::from)?;
    match tokio::time::timeout(Duration::from_secs(30), node.start()).await {
        Ok(Err(NodeError::NotReady { log })) if log.contains("the database needs schema version") => {}
        Ok(Ok(())) => {
            return Err(Failure::breach("the old version runs on a schema that is too new for it".to_owned()));
        }
        other => return Err(Failure::breach(format!("the old version does not say why it does not start: {other:?}"))),
    }
    replace(node, &options.next).await
}
