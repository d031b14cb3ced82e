//! What docs/operations.md lists is what there is: settings and metrics, both ways.
//!
//! Owns: reading the page's tables. Refuses to know: what the settings and metrics mean.

use crate::node::{Ground, Node, http, repository};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_in_the_table_with_its_kind_and_nothing_else_is() {
    let mut listed = BTreeMap::new();
    for row in table("Metrics") {
        // What only a server with TLS has.
        if row[2].contains("with TLS in the server only") {
            continue;
        }
        for name in names(&row[0]) {
            assert!(listed.insert(name, row[1].clone()).is_none());
        }
    }
    let node = Node::start(Ground::sqlite()).await;
    let address = node.running.metrics_address.unwrap();
    let page = http().get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
    let mut served = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let total = if kind == "counter" { "_total" } else { "" };
        served.insert(format!("{name}{total}"), kind.to_owned());
    }
    assert_eq!(listed, served);
    node.stop().await;
}
