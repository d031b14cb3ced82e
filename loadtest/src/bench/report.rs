//! The report.
//!
//! Owns: how what was found is told, to whoever watches and as a file with its drawings. Refuses to know: how it was measured.

use super::line::{Line, Target, Verdict};
use super::machine::Machine;
use super::statistics::Middle;
use super::{Budget, Outcome};
use clap::ValueEnum;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// From here on this program, and not the server, may have been what was measured.
const CLIENT_IS_THE_LIMIT: f64 = 0.9;

/// Says what one cell has found.
pub fn tell(outcome: &Outcome) {
    println!("-- {} ({:.0} s)", name(outcome), outcome.took.as_secs_f64());
    match &outcome.found {
        Ok(found) => found.lines.iter().for_each(|line| {
            println!(
                "{}: {} | {} | {} | {} {}",
                line.name,
                ours(line),
                theirs(line),
                ratio(line),
                target(line),
                word(line)
            );
            if let Some(share) = limited(line) {
                println!("  the client was the limit: {:.0} % of its processor", share * 100.0);
            }
        }),
        Err(failure) => println!("could not be measured: {}", causes(failure)),
    }
}

/// Writes the report and the drawings into a folder. The answer is the report's file.
///
/// # Errors
/// When they can't be written.
pub fn write(
    folder: &Path,
    machine: &Machine,
    budget: &Budget,
    whole: bool,
    outcomes: &[Outcome],
) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (mut table, mut notes, mut drawings) = (String::new(), Vec::new(), String::new());
    for outcome in outcomes {
        match &outcome.found {
            Ok(found) => {
                found.lines.iter().for_each(|line| row(&mut table, &mut notes, line));
                for plot in &found.plots {
                    let file = format!("{}.svg", plot.file);
                    fs::write(folder.join(&file), plot.svg())?;
                    drawings.push_str(&format!("![{}]({file})\n\n", plot.title));
                }
            }
            Err(failure) => {
                let why = causes(failure).replace('|', "/").replace('\n', " ");
                table.push_str(&format!("| {} | could not be measured: {why} | | | | **not met** |\n", name(outcome)));
            }
        }
    }
    let mut report = String::from("# What Homeroom costs\n\n");
    report.push_str(&opening(budget, whole, outcomes));
    report.push_str(
        "| figure | Homeroom | yardstick | ratio, with its 95 % interval | target | |\n|---|---|---|---|---|---|\n",
    );
    report.push_str(&table);
    report.push('\n');
    for (number, note) in notes.iter().enumerate() {
        report.push_str(&format!("{}. {note}\n", number + 1));
    }
    report.push('\n');
    report.push_str(&drawings);
    report.push_str(&closing(machine));
    let file = folder.join("REPORT.md");
    fs::write(&file, report)?;
    Ok(file)
}

fn opening(budget: &Budget, whole: bool, outcomes: &[Outcome]) -> String {
    let command = if budget.full { "make bench-full" } else { "make bench" };
    let minutes = outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum::<f64>() / 60.0;
    let what =
        if whole { format!("Written by `{command}`") } else { "A part of the cells only, written by hand".to_owned() };
    format!(
        "{what} on {}, in {minutes:.0} minutes. Every figure was measured in turn with its yardstick on the same machine: {} rounds of \
         both, {:.1} s each, the first of the two by turns. The speed of such a machine drifts by a quarter within minutes, so only \
         the ratios mean something elsewhere. Given are medians; a ratio is the median of the rounds' ratios, its interval comes from \
         their order (the ranks that hold the true median in at least 95 of 100 cases, whatever the spread). *Met* means that the \
         whole interval lies on the right side of the target, *not met* that it lies on the wrong one, *not shown* that the target \
         lies within.\n\n",
        chrono::Utc::now().format("%-d %B %Y"),
        budget.rounds,
        budget.window.as_secs_f64(),
    )
}

fn closing(machine: &Machine) -> String {
    format!(
        "## Where and of what\n\n\
         | | |\n|---|---|\n\
         | processor | {}, {} cores; the server on the first, the load on the second, as far as there are two |\n\
         | memory | {:.1} GiB |\n\
         | kernel | Linux {}; all connections over loopback |\n\
         | commit | {} |\n\
         | permissions | on: who may see what is decided for each event and reader |\n\
         | metrics | on |\n\
         | durability | on: an acknowledgement leaves after the commit; SQLite with `synchronous=FULL`, PostgreSQL with `fsync` and \
         `synchronous_commit` |\n\
         | languages | on as far as they exist: everybody gets the original with its language and direction; there is no translator yet |\n\
         | TLS | off, as by default, but where a figure names it |\n\
         | traces | off, as by default |\n",
        machine.processor, machine.cores, machine.memory, machine.kernel, machine.commit
    )
}

fn row(table: &mut String, notes: &mut Vec<String>, line: &Line) {
    let mut note = line.note.clone();
    if let Some(share) = limited(line) {
        let limit = format!("**The client was the limit** ({:.0} % of its processor).", share * 100.0);
        note = if note.is_empty() { limit } else { format!("{note} {limit}") };
    }
    let mark = match note.is_empty() {
        true => String::new(),
        false => {
            // What several lines have to say is said once.
            let place = notes.iter().position(|said| *said == note).unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            format!(" [{}]", place + 1)
        }
    };
    // Writing to a string never fails.
    let _ = writeln!(
        table,
        "| {}{mark} | {} | {} | {} | {} | {} |",
        line.name,
        ours(line),
        theirs(line),
        ratio(line),
        target(line),
        word(line)
    );
}

fn ours(line: &Line) -> String {
    let middle = line.ours();
    match line.target {
        Target::OursAtMost(_) => format!("{} {}", with_interval(middle), line.unit),
        _ => format!("{} {}", number(middle.median), line.unit),
    }
}

fn theirs(line: &Line) -> String {
    format!("{}: {} {}", line.yardstick, number(line.theirs().median), line.unit)
}

fn ratio(line: &Line) -> String {
    with_interval(line.ratio())
}

fn with_interval(middle: Middle) -> String {
    let interval = match middle.interval {
        Some((low, high)) => format!(" [{} – {}]", number(low), number(high)),
        None => String::new(),
    };
    format!("{}{interval}", number(middle.median))
}

fn target(line: &Line) -> String {
    match line.target {
        Target::AtMost(most) => format!("≤ {most} ×"),
        Target::AtLeast(least) => format!("≥ {least} ×"),
        Target::OursAtMost(most) => format!("≤ {} {}", number(most), line.unit),
        Target::Told => "–".to_owned(),
    }
}

fn word(line: &Line) -> &'static str {
    match line.verdict() {
        Verdict::Met => "met",
        Verdict::NotMet => "**not met**",
        Verdict::NotShown => "**not shown**",
        Verdict::None => "",
    }
}

fn limited(line: &Line) -> Option<f64> {
    line.client.filter(|share| *share > CLIENT_IS_THE_LIMIT)
}

fn name(outcome: &Outcome) -> String {
    outcome.cell.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A failure, and all that it comes from.
fn causes(failure: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(failure), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// With as many places as say something.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        1_000.0.. => {
            let digits = format!("{value:.0}");
            let group = |(place, digit): (usize, char)| match (digits.len() - place).is_multiple_of(3) && place > 0 {
                true => format!(",{digit}"),
                false => format!("{digit}"),
            };
            digits.chars().enumerate().map(group).collect()
        }
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Found, Round};
    use super::super::{Cell, machine};
    use super::*;
    use crate::Failure;
    use std::time::Duration;

    #[test]
    fn numbers_have_as_many_places_as_say_something() {
        let told = [1_234_567.0, 1_000.0, 999.4, 12.34, 1.234, 0.01].map(number);
        assert_eq!(told, ["1,234,567", "1,000", "999", "12.3", "1.23", "0.010"]);
    }

    #[test]
    fn a_report_hides_nothing() {
        let line = |target, client| Line {
            name: "a figure".to_owned(),
            unit: "µs",
            yardstick: "bare",
            target,
            rounds: vec![Round { ours: 2.0, yardstick: 1.0 }; 9],
            note: "Read it so.".to_owned(),
            client,
        };
        let told = line(Target::OursAtMost(3.0), Some(0.5));
        let lines = vec![line(Target::AtMost(1.5), Some(0.95)), told.clone(), told];
        let outcome = |found| Outcome { cell: Cell::ALL[0], took: Duration::from_secs(60), found };
        let outcomes = [outcome(Ok(Found::from(lines))), outcome(Err(Failure::Broken("a | b".to_owned())))];
        let budget = Budget { rounds: 9, window: Duration::from_secs(3), full: false };
        let folder = tempfile::tempdir().unwrap();
        let file = write(folder.path(), &machine::look(), &budget, true, &outcomes).unwrap();
        let report = fs::read_to_string(file).unwrap();
        for part in [
            "| a figure [1] | 2.00 µs | bare: 1.00 µs | 2.00 [2.00 – 2.00] | ≤ 1.5 × | **not met** |",
            "| a figure [2] | 2.00 [2.00 – 2.00] µs | bare: 1.00 µs | 2.00 [2.00 – 2.00] | ≤ 3.00 µs | met |\n| a figure [2] |",
            "could not be measured: a participant broke: a / b",
            "1. Read it so. **The client was the limit** (95 % of its processor).\n2. Read it so.\n\n",
        ] {
            assert!(report.contains(part), "{part} is missing in\n{report}");
        }
    }
}
