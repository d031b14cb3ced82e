//! Whether a run has come to rest, and what is said of it.
//!
//! Owns: who still waits for what, printing the verdict, and proving on the same histories that a breach would have been seen.
//! Refuses to know: what was done to the servers.

use crate::Failure;
use crate::checker::deed::Deed;
use crate::checker::epochs::{self, PutBack};
use crate::checker::history::{History, Listening, Record, Truth};
use crate::checker::tamper::Tampering;
use crate::checker::{Breach, Counts, Fault, Invariant, Stage, Verdict};
use crate::diary::{Diary, End};
use crate::roll::Roll;
use crate::store::Store;
use futures_util::future::join_all;
use homeroom_client::{Home, Http, Mark, ServerAddress};
use homeroom_protocol::{ConversationId, RoomId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long everybody may take, after the last fault, to have all answers and all events.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// How often something has to be wrong in the same way before nobody waits for it any more.
const LOOKS: u32 = 4;

/// As many are named in a story.
const SOME: usize = 3;

/// How long a fresh snapshot may take.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(10);

/// The highest number acknowledged, by room and conversation.
pub type Ends = BTreeMap<(RoomId, ConversationId), End>;

/// How far each conversation goes, by what was acknowledged.
#[must_use]
pub fn ends(diaries: &[Diary]) -> Ends {
    let mut ends = Ends::new();
    for diary in diaries {
        for (place, end) in &diary.standing().acked {
            let highest = ends.entry(*place).or_insert(*end);
            *highest = (*highest).max(*end);
        }
    }
    ends
}

/// Whether everybody who is there and takes in all at once has heard every conversation that is theirs up to there. Who began in a room
/// after something was acknowledged need not hear it.
#[must_use]
pub fn have_heard(diaries: &[Diary], roll: &Roll, ends: &Ends) -> bool {
    let is_there = |diary: &&Diary| diary.listening() == Listening::AtOnce && !diary.standing().away;
    diaries.iter().filter(is_there).all(|diary| {
        let standing = diary.standing();
        ends.iter().all(|((room, conversation), end)| {
            standing.rooms.get(room).is_none_or(|began| began.is_after(end))
                || standing.heard.get(conversation).is_some_and(|heard| *heard >= end.n)
                || !roll.sees(diary.person(), *room, *conversation)
        })
    })
}

/// Who is there and has not heard what, for stories; some of them.
#[must_use]
pub fn missing(diaries: &[Diary], roll: &Roll, ends: &Ends) -> Vec<String> {
    let of_one = |diary: &Diary| {
        let one = std::slice::from_ref(diary);
        let misses = ends.iter().find(|(place, end)| !have_heard(one, roll, &Ends::from([(**place, **end)])));
        misses.map(|((room, conversation), End { n, at, .. })| {
            let heard = diary.standing().heard.get(conversation).copied();
            let (name, at) = (diary.history().name.clone(), at.as_secs_f64());
            format!(
                "{name} lacks number {n} of {conversation} in room {room}, acknowledged at {at:.2} s; heard: {heard:?}"
            )
        })
    };
    diaries.iter().filter_map(of_one).take(SOME).collect()
}

/// Whether nobody says anything more and everything said is answered.
#[must_use]
pub fn is_silent(diaries: &[Diary]) -> bool {
    diaries.iter().all(|diary| {
        let standing = diary.standing();
        standing.quiet && standing.open == 0
    })
}

/// Waits until everything said is answered and everybody has what is theirs, or until it is clear that they never will.
///
/// # Errors
/// When the database can't be read.
pub async fn until_rest(
    diaries: &[Diary],
    roll: &Roll,
    store: &Store,
    put_back: Option<&PutBack>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + REST_WITHIN;
    let mut hopeless = 0;
    while Instant::now() < deadline {
        if is_silent(diaries) && roll.is_settled() && have_heard(diaries, roll, &ends(diaries)) {
            let truth = store.truth(roll).await?;
            let breaches = look(diaries, truth, put_back).await?.breaches;
            // Something may have come while the database was read: it is looked at again before it counts.
            let passing = breaches.iter().any(|breach| breach.fault.may_pass());
            hopeless = if breaches.is_empty() || passing { 0 } else { hopeless + 1 };
            if breaches.is_empty() || hopeless == LOOKS {
                return Ok(());
            }
            sleep(Duration::from_millis(450)).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    println!("not at rest after {} s: the reckoning shows who misses what", REST_WITHIN.as_secs());
    Ok(())
}

/// On a thread of its own: a long run takes seconds to judge, and the ways between the parts go through this program.
async fn look(diaries: &[Diary], truth: Truth, put_back: Option<&PutBack>) -> Result<Verdict, Failure> {
    let histories: Vec<History> = diaries.iter().map(|diary| diary.history().clone()).collect();
    let put_back = put_back.cloned();
    let judging = tokio::task::spawn_blocking(move || {
        let histories: Vec<&History> = histories.iter().collect();
        epochs::judge(&truth, put_back.as_ref(), &histories, Stage::AtRest)
    });
    judging.await.map_err(|error| Failure::Broken(error.to_string()))
}

/// Gives everybody a fresh snapshot, as an app that was just opened takes one.
///
/// # Errors
/// When nobody answers.
pub async fn take_snapshots(listeners: &[(Diary, String)], server: &ServerAddress) -> Result<(), Failure> {
    let http = Http::new(server.clone())?;
    let taken = listeners.iter().map(|(diary, token)| {
        let http = http.clone().with_token(token.clone());
        async move {
            let home = patiently(&http).await?;
            let conversations = home.rooms.into_iter().flat_map(|room| room.conversations);
            let marks = conversations
                .flat_map(|conversation| {
                    let id = conversation.conversation;
                    std::iter::once(conversation.mine).chain(conversation.others).map(move |mark| (id, mark))
                })
                .collect::<Vec<(ConversationId, Mark)>>();
            diary.note(Record::Snapshot { marks });
            Ok::<(), Failure>(())
        }
    });
    join_all(taken).await.into_iter().collect()
}

/// An app tries again: the balancer may not have seen yet that its nodes are well.
async fn patiently(http: &Http) -> Result<Home, Failure> {
    let deadline = Instant::now() + SNAPSHOT_WITHIN;
    loop {
        match http.home().await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
            outcome => return Ok(outcome?),
        }
    }
}

/// Prints what was done, and what became of it.
pub fn describe(verdict: &Verdict) {
    let Counts { stored, acked, heard, deeds } = &verdict.counts;
    println!("done:");
    for (deed, times) in deeds {
        println!("  {times:>7} × {deed}");
    }
    let of = |faults: &[Fault]| verdict.breaches.iter().filter(|breach| faults.contains(&breach.fault)).count();
    let named = [Fault::Lost, Fault::Doubled, Fault::Reordered, Fault::Leaked];
    let [lost, doubled, reordered, leaked] = named.map(|fault| of(&[fault]));
    let otherwise = verdict.breaches.len() - of(&named);
    println!(
        "{acked} acknowledged, {stored} stored, {heard} delivered; \
         {lost} lost, {doubled} doubled, {reordered} reordered, {leaked} leaked, {otherwise} wrong in another way"
    );
}

/// A failure, if there were breaches.
///
/// # Errors
/// When there were.
pub fn refuse(breaches: &[Breach]) -> Result<(), Failure> {
    if breaches.is_empty() {
        return Ok(());
    }
    let mut told = BTreeSet::new();
    let is_first = |breach: &&Breach| told.insert((breach.invariant, breach.fault));
    let shortest: Vec<String> = breaches.iter().filter(is_first).map(ToString::to_string).collect();
    let mut broken: BTreeMap<_, usize> = BTreeMap::new();
    breaches.iter().for_each(|breach| *broken.entry(breach.invariant).or_default() += 1);
    let times = |(invariant, times): (&Invariant, &usize)| format!("{times} × invariant {}", invariant.number());
    let listed: Vec<String> = broken.iter().map(times).collect();
    let story = format!("{}; the shortest stories:\n  {}", listed.join(", "), shortest.join("\n  "));
    Err(Failure::Breach { invariants: broken.into_keys().collect(), story })
}

/// What a run is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Reckoning<'a> {
    /// What is stored in the end.
    pub truth: &'a Truth,
    /// The restore in its middle, if there was one.
    pub put_back: Option<&'a PutBack>,
    /// What everybody did and heard.
    pub histories: &'a [History],
}

/// Says whether the word was kept, and proves on the same histories that a breach would have been seen.
///
/// # Errors
/// When there was a breach, one would not have been seen, or something that was planned was never done.
pub fn judge(verdict: &Verdict, run: Reckoning<'_>, planned: &[Deed], seed: u64) -> Result<(), Failure> {
    refuse(&verdict.breaches)?;
    if let Some(missing) = planned.iter().find(|deed| !verdict.counts.deeds.contains_key(deed)) {
        return Err(Failure::Broken(format!("the run shows too little: no {missing}, and some were planned")));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut proven = 0;
    for tampering in Tampering::ALL {
        match tampering.is_caught(run.truth, run.put_back, run.histories, &mut random) {
            Some(true) => proven += 1,
            Some(false) => return Err(Failure::Blind(tampering)),
            None => println!("this run has no place to try {tampering:?}"),
        }
    }
    println!("{proven} of {} tamperings with this very run are caught", Tampering::ALL.len());
    let of_restore = run.put_back.map(|put_back| epochs::tamper(run.truth, put_back, run.histories));
    for (what, caught) in of_restore.into_iter().flatten() {
        match caught {
            Some(true) => println!("caught: {what}"),
            Some(false) => return Err(Failure::Broken(format!("the checker is blind: it did not notice that {what}"))),
            None => println!("this run has no place to try that {what}"),
        }
    }
    Ok(())
}
