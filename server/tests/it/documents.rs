//! What docs/operations.md lists is what there is: settings, both ways (metrics: see `metrics`).
//!
//! Owns: reading the page's tables. Refuses to know: what the settings mean.

use crate::node::repository;
use homeroom::config::SETTINGS;
use std::collections::BTreeMap;

/// The rows of a section's first table, as cells.
fn table(section: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let text = page.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let lines = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_setting_is_in_the_table_with_its_flag_its_variable_and_its_default_and_nothing_else_is() {
    let mut listed = BTreeMap::new();
    for row in table("Settings") {
        let (keys, flags, variables, defaults) = (names(&row[0]), names(&row[1]), names(&row[2]), names(&row[3]));
        assert!(!row[4].is_empty(), "{keys:?} is explained");
        for (place, key) in keys.into_iter().enumerate() {
            let default = defaults.first().cloned().unwrap_or_default();
            assert!(listed.insert(key, (flags[place].clone(), variables[place].clone(), default)).is_none());
        }
    }
    let there_is = SETTINGS.iter().map(|setting| {
        let how = (format!("--{}", setting.flag), setting.variable(), setting.default.to_owned());
        (setting.key.to_owned(), how)
    });
    assert_eq!(listed, there_is.collect());
}
