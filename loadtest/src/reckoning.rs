//! Whether a run has come to rest, and what is said of it.
//!
//! Owns: who still waits for what, printing the verdict, and proving on the same histories that a breach would have been seen.
//! Refuses to know: what was done to the servers.

use crate::Failure;
use crate::checker::history::{History, Sight, Truth};
use crate::checker::tamper::Tampering;
use crate::checker::{Counts, Fault, Verdict};
use crate::participant::{Standing, Watched};
use homeroom_protocol::{ConversationId, RoomId};
use std::collections::BTreeMap;

/// What each player may see, in the order of the players.
pub type Sights = Vec<BTreeMap<RoomId, Sight>>;
/// The highest number acknowledged, by room and conversation.
pub type Ends = BTreeMap<(RoomId, ConversationId), u64>;

/// Whether nobody says anything more, everything said is answered, and everything acknowledged heard by all who may hear it.
#[must_use]
pub fn at_rest(watched: &[Watched], sights: &Sights) -> bool {
    let standings: Vec<Standing> = watched.iter().map(Watched::standing).collect();
    if standings.iter().any(|standing| !standing.quiet || standing.open > 0) {
        return false;
    }
    have_heard(&standings, sights, &ends(&standings))
}

/// How far each conversation goes, by what was acknowledged.
#[must_use]
pub fn ends(standings: &[Standing]) -> Ends {
    let mut ends = Ends::new();
    for (place, n) in standings.iter().flat_map(|standing| &standing.acked) {
        let end = ends.entry(*place).or_default();
        *end = (*end).max(*n);
    }
    ends
}

/// Whether everybody has heard every conversation that they may see up to there.
#[must_use]
pub fn have_heard(standings: &[Standing], sights: &Sights, ends: &Ends) -> bool {
    standings.iter().zip(sights).all(|(standing, sight)| {
        let mut theirs = ends.iter().filter(|((room, conversation), _)| match sight.get(room) {
            Some(Sight::All) => true,
            Some(Sight::Only(theirs)) => theirs.contains(conversation),
            None => false,
        });
        theirs.all(|((_, conversation), end)| standing.heard.get(conversation).is_some_and(|heard| heard >= end))
    })
}

/// Prints what was done, and what became of it.
pub fn describe(verdict: &Verdict) {
    let Counts { stored, posted, edited, retracted, acked, heard } = verdict.counts;
    println!("{posted} messages said, {edited} edited, {retracted} taken back");
    let of = |faults: &[Fault]| verdict.breaches.iter().filter(|breach| faults.contains(&breach.fault)).count();
    let named = [Fault::Lost, Fault::Doubled, Fault::Reordered, Fault::Leaked];
    let [lost, doubled, reordered, leaked] = named.map(|fault| of(&[fault]));
    let otherwise = verdict.breaches.len() - of(&named);
    println!(
        "{acked} acknowledged, {stored} stored, {heard} delivered; \
         {lost} lost, {doubled} doubled, {reordered} reordered, {leaked} leaked, {otherwise} wrong in another way"
    );
}

/// Says whether the word was kept, and proves on the same histories that a breach would have been seen.
///
/// # Errors
/// When there was a breach, one would not have been seen, or something was never tried.
pub fn judge(verdict: &Verdict, truth: &Truth, histories: &[History], seed: u64) -> Result<(), Failure> {
    if let Some(shortest) = verdict.breaches.first() {
        let mut broken: BTreeMap<_, usize> = BTreeMap::new();
        verdict.breaches.iter().for_each(|breach| *broken.entry(breach.invariant.number()).or_default() += 1);
        let broken: Vec<String> =
            broken.iter().map(|(number, times)| format!("{times} × invariant {number}")).collect();
        return Err(Failure::Breach(format!("{}; the shortest story: {shortest}", broken.join(", "))));
    }
    let Counts { posted, edited, retracted, acked, .. } = verdict.counts;
    let done = [("posted", posted), ("edited", edited), ("retracted", retracted), ("acknowledged", acked)];
    if let Some((what, _)) = done.iter().find(|(_, times)| *times == 0) {
        return Err(Failure::Broken(format!("the run shows nothing: nothing was {what}")));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut proven = 0;
    for tampering in Tampering::ALL {
        match tampering.is_caught(truth, histories, &mut random) {
            Some(true) => proven += 1,
            Some(false) => return Err(Failure::Blind(tampering)),
            None => println!("this run has no place to try {tampering:?}"),
        }
    }
    println!("{proven} of {} tamperings with this very run are caught", Tampering::ALL.len());
    Ok(())
}
