//! The page says what the figures make of it, and the reckoning agrees with what was simulated.

use super::inputs::{self, Inputs};
use super::model::{LIMITS, holders, needs, peak};
use super::page;
use super::simulation::{Balance, simulate};

const FIGURES: &str = include_str!("../../../docs/scale.toml");
const PAGE: &str = include_str!("../../../docs/scale.md");

fn figures() -> Inputs {
    inputs::read(FIGURES).unwrap().0
}

#[test]
fn the_page_is_what_the_figures_say() {
    let (inputs, figures) = inputs::read(FIGURES).unwrap();
    let written = page::written(PAGE, &inputs, &figures);
    for (line, (is, should)) in PAGE.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, should, "line {} of docs/scale.md: `homeroom-loadtest scale` makes it anew", line + 1);
    }
    assert_eq!(PAGE.len(), written.len());
    for name in ["figures", "peak", "needs", "breaks", "cells", "simulation"] {
        assert!(PAGE.contains(&format!("<!-- {name} -->\n|")), "the page has no table of {name}");
    }
}

#[test]
fn the_reckoning_is_what_families_do_one_by_one() {
    let inputs = figures();
    for (families, nodes) in [(20_000, 3), (50_000, 12), (50_000, 40)] {
        let mut needs = needs(&inputs, f64::from(families));
        needs.nodes = f64::from(nodes);
        let seen = simulate(&inputs, families as usize, nodes as usize, Balance::Fewest, 1);
        for (name, reckoned, simulated) in page::compared(&inputs, &needs, &seen) {
            let off = (reckoned / simulated - 1.0).abs();
            assert!(off < 0.05, "{name} of {families} families on {nodes} nodes: {reckoned} and {simulated}");
        }
    }
}

#[test]
fn a_school_on_one_node_is_held_by_one() {
    let seen = simulate(&figures(), 20_000, 10, Balance::BySchool, 1);
    assert!(seen.holders < 1.2, "{}", seen.holders);
}

#[test]
fn by_hand_it_is_the_same() {
    let inputs = figures();
    // 25,000 families: 42,500 children in 6,800 classes; 8,333 families are there, with 12,500 sessions.
    let peak = peak(&inputs, 25_000.0);
    assert!((peak.classes - 6_800.0).abs() < 1.0, "{}", peak.classes);
    assert!((peak.sign_ins * 600.0 - 12_500.0).abs() < 5.0, "{}", peak.sign_ins);
    assert!((peak.announcements - 11.33).abs() < 0.01, "{}", peak.announcements);
    assert_eq!((holders(1.0, 40.0), holders(50.0, 1.0).round()), (1.0, 1.0));
    assert!((holders(2.0, 2.0) - 1.5).abs() < 1e-9);
}

#[test]
fn more_families_need_no_less_and_a_limit_is_where_it_is_full() {
    let inputs = figures();
    let mut before = needs(&inputs, 1_000.0);
    for power in 7..=16 {
        let more = needs(&inputs, 10_f64.powf(f64::from(power) / 2.0));
        assert!(more.nodes >= before.nodes && more.bus >= before.bus && more.used() >= before.used());
        before = more;
    }
    for limit in LIMITS {
        let families = limit.families(&inputs);
        let (below, above) = (
            (limit.of)(&inputs, &needs(&inputs, families * 0.99)),
            (limit.of)(&inputs, &needs(&inputs, families * 1.02)),
        );
        assert!(below <= 1.0 && above > 1.0, "{}: {below} and {above} around {families}", limit.name);
    }
}

#[test]
fn a_figure_that_nobody_knows_or_gave_is_refused() {
    assert!(inputs::read(&FIGURES.replace("[online]", "[offline]")).is_err());
    assert!(inputs::read(&format!("{FIGURES}\n[more]\nvalue = 1\nunit = \"\"\nsource = \"\"\n")).is_err());
}
