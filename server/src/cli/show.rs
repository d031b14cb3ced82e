//! What the command line shows: progress, reports, invitations, and what went wrong.
//!
//! Owns: words and exit codes. Refuses to know: how the work is done.

use super::{BAD_ROWS, FAILED};
use crate::control::Answer;
use crate::roster::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

/// A progress bar on a terminal, nothing elsewhere.
pub(super) struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:30} {percent:>3}% {elapsed}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Bar {
    pub(super) fn show(&self, progress: &Progress) {
        if std::io::stderr().is_terminal() {
            self.0.set_message(progress.stage.clone());
            self.0.set_length(progress.total);
            self.0.set_position(progress.done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

pub(super) fn show_import(answer: Result<Answer, Box<dyn Error>>, json: bool) -> ExitCode {
    match answer {
        Ok(answer @ (Answer::Imported(_) | Answer::BadRows { .. })) if json => {
            let bad = matches!(answer, Answer::BadRows { .. });
            println!("{}", serde_json::to_string(&answer).unwrap_or_default());
            if bad { ExitCode::from(BAD_ROWS) } else { ExitCode::SUCCESS }
        }
        Ok(Answer::Imported(report)) => {
            println!(
                "{:16} {:>9} {:>9} {:>9}",
                if report.dry_run { "would be" } else { "" },
                "added",
                "changed",
                "removed"
            );
            for (name, changes) in report.lines() {
                println!("{name:16} {:>9} {:>9} {:>9}", changes.added, changes.changed, changes.removed);
            }
            if report.skipped > 0 {
                println!("{} bad row(s) were left out", report.skipped);
            }
            ExitCode::SUCCESS
        }
        Ok(Answer::BadRows { rows, total }) => {
            for row in rows.iter().take(50) {
                eprintln!("{row}");
            }
            if total > 50 {
                eprintln!("… and {} more", total - 50);
            }
            complain(
                BAD_ROWS,
                &format!(
                    "nothing was imported: {total} row(s) can't be taken; mend them, or leave them out with --skip-bad-rows FILE"
                ),
            )
        }
        other => unexpected(other),
    }
}

pub(super) fn show_invited(answer: Result<Answer, Box<dyn Error>>, json: bool) -> ExitCode {
    match answer {
        Ok(Answer::Invited { invitations }) if json => {
            println!("{}", serde_json::to_string_pretty(&invitations).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(Answer::Invited { invitations }) => {
            for invited in invitations {
                println!(
                    "{}\n  link  {}\n  or sign in as {} with the code {}\n",
                    invited.name, invited.link, invited.username, invited.code
                );
            }
            ExitCode::SUCCESS
        }
        other => unexpected(other),
    }
}

pub(super) fn unexpected(answer: Result<Answer, Box<dyn Error>>) -> ExitCode {
    match answer {
        Ok(Answer::Failed { message }) => complain(FAILED, &message),
        Ok(_) => complain(FAILED, "the server answered something else than was asked; is it of another version?"),
        Err(error) => fail(FAILED, &*error),
    }
}

pub(super) fn say(words: &str) -> ExitCode {
    println!("{words}");
    ExitCode::SUCCESS
}

pub(super) fn complain(code: u8, words: &str) -> ExitCode {
    eprintln!("homeroom: {words}");
    ExitCode::from(code)
}

pub(super) fn fail(code: u8, error: &dyn Error) -> ExitCode {
    complain(code, &chain(error))
}

/// An error with what caused it.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = cause.source();
    }
    words
}
