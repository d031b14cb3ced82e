//! Breaks a good run with a restore in it, to prove that the checker would notice.
//!
//! Owns: one damage of each kind that only a restore knows. Refuses to know: how it is found.

use super::{PutBack, begins_or_ends, check_put_back};
use crate::checker::history::{History, Listening, Noted, Record, Truth};
use crate::checker::{Fault, Stage};
use homeroom_protocol::ResetReason;
use std::time::Duration;

/// Breaks a good run in the ways that only a restore knows; whether each is caught. Nothing where the run has no place for one.
#[must_use]
pub fn tamper(truth: &Truth, put_back: &PutBack, histories: &[History]) -> Vec<(&'static str, Option<bool>)> {
    let is_caught = |truth: &Truth, put_back: &PutBack, histories: &[History], fault: Fault| {
        let histories: Vec<&History> = histories.iter().collect();
        let verdict = check_put_back(truth, put_back, &histories, Stage::AtRest);
        verdict.breaches.iter().any(|breach| breach.fault == fault)
    };
    let lost = put_back.lost();
    let is_told = |noted: &Noted| matches!(noted.record, Record::Reset { reason: ResetReason::UnknownPosition, .. });
    let untold = histories.iter().position(|history| history.records.iter().any(is_told)).map(|which| {
        let mut histories = histories.to_vec();
        // The word never comes, nor anything after it that could stand for it.
        let records = &mut histories[which].records;
        let from = records.iter().position(is_told).unwrap_or(0);
        let tail = records.split_off(from);
        records.extend(tail.into_iter().filter(|noted| begins_or_ends(&noted.record).is_none()));
        is_caught(truth, put_back, &histories, Fault::Differs)
    });
    let gone = histories.iter().flat_map(|history| &history.records).find_map(|noted| match noted.record {
        Record::Acked { id, .. } if lost.contains(&id) => Some(noted.at),
        _ => None,
    });
    let copied_later = gone.map(|at| {
        let put_back = PutBack { copied: at + Duration::from_nanos(1), ..put_back.clone() };
        is_caught(truth, &put_back, histories, Fault::Lost)
    });
    let needless = histories.iter().position(|history| {
        history.listening != Listening::NotAtAll && history.records.iter().any(|noted| noted.at > put_back.restored)
    });
    let needless = needless.and_then(|which| {
        let mut histories = histories.to_vec();
        let records = &mut histories[which].records;
        let heard = records.iter().rev().find_map(|noted| match &noted.record {
            Record::Heard(heard) if !lost.contains(&heard.id) => Some((noted.at, heard.room, heard.id)),
            _ => None,
        });
        let (at, room, id) = heard?;
        let record = Record::Reset { room, position: Some(id), reason: ResetReason::UnknownPosition };
        records.push(Noted { at: at.max(put_back.restored), record });
        Some(is_caught(truth, put_back, &histories, Fault::Noticed))
    });
    let kept = put_back.copy.events.iter().position(|event| event.client_id.is_some()).map(|place| {
        let id = put_back.copy.events[place].id;
        let mut truth = truth.clone();
        truth.events.retain(|event| event.id != id);
        is_caught(&truth, put_back, histories, Fault::Lost)
    });
    vec![
        ("a client is not told to start anew", untold),
        ("what was acknowledged before the copy is gone", copied_later),
        ("a client is told to start anew without need", needless),
        ("what was in the copy is gone", kept),
    ]
}
