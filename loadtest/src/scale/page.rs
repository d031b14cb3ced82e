//! The tables of `docs/scale.md`.
//!
//! Owns: which figures stand where, in words, and putting them between the page's marks. Refuses to know: how they came to be.

use super::inputs::{Input, Inputs};
use super::model::{LIMITS, Needs, holders, needs, overlap, peak};
use super::simulation::{Balance, Seen, simulate};
use std::fmt::Write as _;

/// The sizes that were asked for.
pub const SIZES: [f64; 3] = [1e4, 1e6, 5e7];
/// Families of one cell, where one PostgreSQL is not enough any more.
pub const CELL: f64 = 1e6;
/// Sizes that are simulated. The largest takes some seconds.
const SIMULATED: [f64; 3] = [1e4, 1e5, 1e6];
const SEED: u64 = 7;

/// The page with its tables made anew.
pub fn written(page: &str, inputs: &Inputs, figures: &[(&'static str, Input)]) -> String {
    [
        ("figures", given(figures)),
        ("peak", of_peak(inputs)),
        ("needs", of_needs(inputs)),
        ("breaks", of_breaks(inputs)),
        ("cells", of_cells(inputs)),
        ("simulation", of_simulation(inputs)),
    ]
    .into_iter()
    .fold(page.to_owned(), |page, (name, table)| put(&page, name, &table))
}

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->`; a page without them stays as it is.
fn put(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    match (page.split_once(&begin), page.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{begin}{table}{end}{after}"),
        _ => page.to_owned(),
    }
}

/// Three digits that mean something, and words for what is large.
fn number(value: f64) -> String {
    let (value, word) = match value.abs() {
        large if large >= 1e9 => (value / 1e9, " billion"),
        large if large >= 1e6 => (value / 1e6, " million"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        small if small == 0.0 || small >= 100.0 => 0,
        small if small >= 10.0 => 1,
        small if small >= 0.995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    let whole = text.split('.').next().unwrap_or_default();
    if whole.len() > 3 {
        let (thousands, rest) = text.split_at(whole.len() - 3);
        return format!("{thousands},{rest}{word}");
    }
    format!("{text}{word}")
}

fn percent(part: f64) -> String {
    if part > 0.0 && part < 0.001 { "under 0.1 %".to_owned() } else { format!("{} %", number(part * 100.0)) }
}

fn table(head: &[String], rows: &[(&str, Vec<String>)]) -> String {
    let mut text = format!("| | {} |\n|---{}|\n", head.join(" | "), "|---".repeat(head.len()));
    for (name, cells) in rows {
        let _infallible = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

fn given(figures: &[(&'static str, Input)]) -> String {
    let rows: Vec<(&str, Vec<String>)> = figures
        .iter()
        .map(|(name, Input { value, unit, source })| {
            (*name, vec![format!("{} {unit}", number(*value)).trim().to_owned(), source.clone()])
        })
        .collect();
    table(&["figure".to_owned(), "from".to_owned()], &rows).replace('_', " ")
}

fn sizes() -> Vec<String> {
    SIZES.iter().map(|families| format!("{} families", number(*families))).collect()
}

fn over<T>(of: impl Fn(f64) -> T, show: impl Fn(&T) -> String) -> Vec<String> {
    SIZES.iter().map(|families| show(&of(*families))).collect()
}

fn of_peak(inputs: &Inputs) -> String {
    let all = |show: fn(&super::model::Peak) -> f64| over(|families| peak(inputs, families), |peak| number(show(peak)));
    table(
        &sizes(),
        &[
            ("classes, each a room", all(|peak| peak.classes)),
            ("sessions", all(|peak| peak.sessions)),
            ("sign-ins a second", all(|peak| peak.sign_ins)),
            ("announcements a second", all(|peak| peak.announcements)),
            ("events a second, private ones too", all(|peak| peak.events)),
            ("deliveries a second", all(|peak| peak.deliveries)),
            ("marks a second, at most", all(|peak| peak.marks)),
        ],
    )
}

fn of_needs(inputs: &Inputs) -> String {
    let all = |show: fn(&Needs) -> String| over(|families| needs(inputs, families), show);
    table(
        &sizes(),
        &[
            ("nodes, one of them to spare", all(|needs| format!("{} (by {})", number(needs.nodes), needs.nodes_by))),
            ("cores in use: signing in", all(|needs| number(needs.cores[0]))),
            ("… delivering", all(|needs| number(needs.cores[1]))),
            ("… marks, where they are said", all(|needs| number(needs.cores[2]))),
            ("… hearing other nodes", all(|needs| number(needs.cores[3]))),
            ("nodes that hold a class's room", all(|needs| number(needs.holders))),
            ("Redis: handed over a second", all(|needs| number(needs.bus))),
            ("Redis masters", all(|needs| number(needs.masters))),
            ("PostgreSQL: appends", all(|needs| percent(needs.appends))),
            ("… marks", all(|needs| percent(needs.marks))),
            ("… signing in", all(|needs| percent(needs.sign_ins))),
            ("… looks at the bell", all(|needs| percent(needs.looks))),
            ("… of the measured one, in all", all(|needs| percent(needs.used()))),
            ("rooms read from the bell a second", all(|needs| number(needs.look_rows))),
            ("connections to PostgreSQL", all(|needs| number(needs.connections))),
            ("written in a year", all(|needs| format!("{} GB", number(needs.gigabytes_a_year)))),
        ],
    )
}

fn of_breaks(inputs: &Inputs) -> String {
    let mut limits: Vec<(f64, &str)> = LIMITS.iter().map(|limit| (limit.families(inputs), limit.name)).collect();
    limits.sort_by(|one, other| one.0.total_cmp(&other.0));
    let rows: Vec<(&str, Vec<String>)> = limits
        .into_iter()
        .map(|(families, name)| {
            let needs = needs(inputs, families);
            let parts = [
                ("appends", needs.appends),
                ("marks", needs.marks),
                ("signing in", needs.sign_ins),
                ("looks", needs.looks),
            ];
            let most = parts.iter().max_by(|one, other| one.1.total_cmp(&other.1)).map_or("", |part| part.0);
            let by = if name.contains("connections") || name.contains("Redis") { "" } else { most };
            (name, vec![number(families), number(needs.nodes), by.to_owned()])
        })
        .collect();
    table(&["is full at so many families".to_owned(), "nodes by then".to_owned(), "mostly by".to_owned()], &rows)
}

fn of_cells(inputs: &Inputs) -> String {
    let head: Vec<String> = SIZES
        .iter()
        .map(|families| match families / CELL {
            cells if cells > 1.0 => format!("{} families, {} cells", number(*families), number(cells)),
            _ => format!("{} families, one cell", number(*families)),
        })
        .collect();
    let cells = |show: &dyn Fn(&Needs, f64) -> f64| {
        SIZES
            .iter()
            .map(|families| {
                let count = (families / CELL).max(1.0);
                number(show(&needs(inputs, families / count), count))
            })
            .collect::<Vec<_>>()
    };
    let money = |part: usize| cells(&move |needs, count| needs.euros_a_month[part] * count);
    let year = SIZES.iter().map(|families| {
        let of_a_cell = needs(inputs, families.min(CELL)).euros_a_month.iter().sum::<f64>() * 12.0;
        format!("**{} €**", number(of_a_cell / families.min(CELL)))
    });
    table(
        &head,
        &[
            ("nodes", cells(&|needs, count| needs.nodes * count)),
            ("Redis masters", cells(&|needs, count| needs.masters * count)),
            ("PostgreSQL, in measured ones", cells(&|needs, count| needs.postgres * count)),
            ("€ a month: nodes", money(0)),
            ("… Redis, with replicas", money(1)),
            ("… PostgreSQL, with standbys", money(2)),
            ("… two years of disk, twice, and backups", money(3)),
            ("… traffic", money(4)),
            ("a family and year", year.collect()),
        ],
    )
}

fn of_simulation(inputs: &Inputs) -> String {
    let mut text = String::from("| | reckoned | simulated | off by |\n|---|---|---|---|\n");
    for families in SIMULATED {
        let needs = needs(inputs, families);
        let seen = simulate(inputs, families as usize, needs.nodes as usize, Balance::Fewest, SEED);
        let _infallible = writeln!(text, "| **{} families, {} nodes** | | | |", number(families), number(needs.nodes));
        for (name, reckoned, simulated) in compared(inputs, &needs, &seen) {
            let off = (reckoned / simulated - 1.0) * 100.0;
            let _infallible = writeln!(text, "| {name} | {} | {} | {off:+.1} % |", number(reckoned), number(simulated));
        }
        let school = simulate(inputs, families as usize, needs.nodes as usize, Balance::BySchool, SEED);
        let _infallible = writeln!(
            text,
            "| a school's sessions all on one node: holders; the fullest node | | {}; {} × the mean | |",
            number(school.holders),
            number(school.fullest)
        );
    }
    text
}

/// What both know.
pub fn compared(inputs: &Inputs, needs: &Needs, seen: &Seen) -> [(&'static str, f64, f64); 8] {
    let peak = needs.peak;
    let looked = peak.events * (inputs.look_interval + overlap(inputs, peak.events));
    let held = holders(needs.nodes, peak.in_a_room + inputs.staff_per_class);
    [
        ("classes", peak.classes, seen.classes),
        ("sessions", peak.sessions, seen.sessions),
        ("sessions on the fullest node, in mean ones", 1.0, seen.fullest),
        ("sessions of families in a room", peak.in_a_room, seen.in_a_room),
        ("nodes that hold a room", held, seen.holders),
        ("news that Redis hands over for an event", held, seen.bus_an_event),
        ("deliveries of an announcement", peak.in_a_room + inputs.staff_per_class, seen.deliveries_an_announcement),
        ("rooms that a look at the bell reads", looked, seen.rows_a_look),
    ]
}
