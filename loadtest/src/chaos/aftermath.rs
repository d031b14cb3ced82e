//! After each fault: how long until all is well again, and whether anything is wrong already.
//!
//! Owns: what has to be heard, and known, so soon after a fault's end. Refuses to know: how the fault was made, and what is judged in the
//! end.

use super::Run;
use super::fault::Fault;
use super::nemesis::Strike;
use crate::Failure;
use crate::checker::epochs::{self, PutBack};
use crate::checker::history::{History, Listening};
use crate::checker::{self, Invariant, Stage, marks};
use crate::cluster::ClusterError;
use crate::diary::Diary;
use crate::participant::Act;
use crate::reckoning::{self, Ends};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What was acknowledged when a fault ended has to be heard by all who are there so soon after it.
const REPAIRED_WITHIN: Duration = Duration::from_secs(5);
/// Who has not heard it so long after that has lost it: it is not late any more.
const LOST_AFTER: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Waits until all have heard what was acknowledged when the fault ended, and looks whether anything is wrong already.
    pub(super) async fn after(&mut self, strike: Strike, put_back: Option<&PutBack>) -> Result<(), Failure> {
        strike.faults().for_each(|fault| *self.injected.entry(fault).or_default() += 1);
        let quiet = strike.fault == Fault::QuietRedis;
        if quiet {
            self.act.send_replace(Act::Listen);
            self.until_silent().await;
        }
        let began = Instant::now();
        if let Some(put_back) = put_back.filter(|_| strike.faults().any(|fault| fault == Fault::Restore)) {
            self.until_told(put_back).await?;
            self.marks.clone_from(&put_back.copy.marks);
        }
        let ends = reckoning::ends(&self.diaries);
        let told = began.elapsed();
        let took = told + self.until_heard(&ends, REPAIRED_WITHIN.saturating_sub(told)).await;
        if took > REPAIRED_WITHIN {
            return Err(self.late(strike, &ends, took).await);
        }
        if quiet {
            self.cluster.redis.run().await.map_err(ClusterError::from)?;
            self.act.send_replace(Act::Speak);
        }
        if self.slowest.is_none_or(|(_, slowest)| took > slowest) {
            self.slowest = Some((strike, took));
        }
        self.look_at_marks().await?;
        // The whole log is read for it: a long run does so in the end only.
        if self.options.sabotage.is_some() { self.look().await } else { Ok(()) }
    }

    /// Whether anything is wrong that can't be put right any more.
    async fn look(&self) -> Result<(), Failure> {
        // Before the database is read: whatever they hold is in it then.
        let histories: Vec<History> = self.diaries.iter().map(|diary| diary.history().clone()).collect();
        let Ok(truth) = self.store.truth(&self.roll).await else { return Ok(()) };
        let histories: Vec<&History> = histories.iter().collect();
        reckoning::refuse(&checker::check(&truth, &histories, Stage::UnderWay).breaches)
    }

    /// No mark goes back.
    async fn look_at_marks(&mut self) -> Result<(), Failure> {
        let Ok(marks) = self.store.marks().await else { return Ok(()) };
        if let Some((before, now)) = marks::fallen(&self.marks, &marks) {
            let story = format!("a mark went back: {before:?}, and then {now:?}");
            return Err(Failure::Breach { invariants: [Invariant::Marks].into(), story });
        }
        self.marks = marks;
        Ok(())
    }

    /// Waits until nobody says anything more and everything said is answered, or long enough.
    async fn until_silent(&self) {
        let deadline = Instant::now() + REPAIRED_WITHIN;
        let is_silent = || reckoning::is_silent(&self.diaries) && self.roll.is_settled();
        while !is_silent() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all who hold what is gone since a restore, and are there, were told so.
    async fn until_told(&self, put_back: &PutBack) -> Result<(), Failure> {
        let lost = put_back.lost();
        let is_unaware = |diary: &&Diary| {
            let is_there = diary.listening() == Listening::AtOnce && !diary.standing().away;
            is_there && !epochs::unaware(&diary.history(), &lost).is_empty()
        };
        let began = Instant::now();
        while let Some(unaware) = self.diaries.iter().find(is_unaware) {
            if began.elapsed() > REPAIRED_WITHIN {
                let (name, since) = (unaware.history().name.clone(), REPAIRED_WITHIN.as_secs());
                let story = format!("{since} s after an older copy was put back {name} had not been told so");
                return Err(Failure::Breach { invariants: [Invariant::Complete].into(), story });
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How long it takes until everybody has heard what was acknowledged up to there; a little more than `within` when it takes longer.
    async fn until_heard(&self, ends: &Ends, within: Duration) -> Duration {
        let began = Instant::now();
        while began.elapsed() <= within && !reckoning::have_heard(&self.diaries, &self.roll, ends) {
            sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// What it means that not all was heard in time: it was late, or it is lost.
    async fn late(&self, strike: Strike, ends: &Ends, took: Duration) -> Failure {
        let mut story =
            format!("{:.1} s after the end of \"{strike}\" somebody still had not heard all of it", took.as_secs_f64());
        for missing in reckoning::missing(&self.diaries, &self.roll, ends) {
            story += &format!("\n    {missing}");
        }
        let mut invariants: BTreeSet<Invariant> = strike.faults().map(Fault::invariant).collect();
        if self.until_heard(ends, LOST_AFTER).await > LOST_AFTER {
            story += &format!("\n    nor {} s later", LOST_AFTER.as_secs());
            invariants.insert(Invariant::Complete);
        }
        Failure::Breach { invariants, story }
    }
}
