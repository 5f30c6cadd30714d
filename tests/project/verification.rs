//! docs/VERIFICATION.md names tests; they exist.

use std::{fs, path::Path};

const PAGE: &str = "docs/VERIFICATION.md";
/// Rules in docs/SAFETY.md that have numbers.
const RULES: usize = 39;
/// Kinds of bugs that other snapshotters had.
const BUGS: usize = 16;
/// Kinds of trouble on real machines, links and stores.
const TROUBLES: usize = 14;

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once(".rs::"))
        .collect();
    assert!(named.len() > 60, "only {} tests are named", named.len());
    for (file, test) in named {
        let path = root.join(format!("{file}.rs"));
        let source =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let begin = source.find(&format!("fn {test}("));
        let begin = begin.unwrap_or_else(|| panic!("{file}.rs has no {test}"));
        let before = &source[begin.saturating_sub(120)..begin];
        let is_test = before.contains("test]") || before.contains("::test(");
        assert!(is_test, "{file}.rs: {test} is no test");
    }
}

#[test]
fn every_rule_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let safety = fs::read_to_string(root.join("docs/SAFETY.md")).unwrap();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    for rule in 1..=RULES {
        let row = format!("\n| {rule} |");
        assert!(safety.contains(&row), "SAFETY.md has no rule {rule}");
        assert!(page.contains(&row), "{PAGE} has no row {rule}");
    }
    let next = format!("\n| {} |", RULES + 1);
    assert!(
        !safety.contains(&next),
        "a rule was added: give it a row here too"
    );
}

/// The rows of the first table under a heading.
fn rows(heading: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).map(str::to_owned).collect()
}

/// `make verify` reads the same tables.
#[test]
fn every_row_names_a_test() {
    let (rules, bugs) = (rows("Rules"), rows("Bugs that others had"));
    let troubles = rows("On real machines, links and stores");
    assert_eq!(rules.len(), RULES);
    assert!(bugs.len() >= BUGS, "only {} bugs", bugs.len());
    assert!(troubles.len() >= TROUBLES, "only {}", troubles.len());
    for row in rules.iter().chain(&bugs).chain(&troubles) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(cells[1].contains(".rs::"), "no test: {row}");
        assert!(cells[2].trim().len() > 1, "no mutation: {row}");
    }
}
