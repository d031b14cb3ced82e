//! `homeroom doctor`: what it found, for people and for programs.
//!
//! Owns: words, columns and the exit code. Refuses to know: what was looked at.

use super::FAILED;
use crate::doctor::{self, Finding, State};
use std::process::ExitCode;

/// Shows all findings; fails where something is broken.
pub(super) fn show(findings: &[Finding], json: bool) -> ExitCode {
    let verdict = doctor::verdict(findings);
    if json {
        let said = serde_json::json!({ "verdict": verdict, "findings": findings });
        println!("{}", serde_json::to_string_pretty(&said).unwrap_or_default());
    } else {
        for finding in findings {
            println!(
                "{:9}  {:20}  {}",
                word(finding.state),
                finding.check,
                finding.found.replace('\n', "\n           ")
            );
            if let Some(advice) = &finding.advice {
                println!("{:9}  {:20}  → {advice}", "", "");
            }
        }
        let count = |state| findings.iter().filter(|finding| finding.state == state).count();
        let [ok, attention, broken] = [State::Ok, State::Attention, State::Broken].map(count);
        println!("\n{ok} ok, {attention} for attention, {broken} broken");
    }
    if verdict == State::Broken { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Attention => "attention",
        State::Broken => "BROKEN",
    }
}
