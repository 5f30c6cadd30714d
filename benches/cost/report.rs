//! What was measured, as JSON for programs and as a table for docs/PERFORMANCE.md.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Name in report.json.
    pub key: String,
    pub what: String,
    pub value: f64,
    pub unit: String,
    /// What it should be; none for figures that only inform.
    pub target: Option<Target>,
    /// Every sample, in the order in which they were taken.
    pub samples: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("at least {bound}"),
            Self::AtMost(bound) => format!("at most {bound}"),
        }
    }
}

impl Row {
    /// The median of samples.
    pub fn median(key: &str, what: impl Into<String>, unit: &str, samples: Vec<f64>) -> Self {
        Self {
            key: key.to_owned(),
            what: what.into(),
            value: median(&samples),
            unit: unit.to_owned(),
            target: None,
            samples,
        }
    }

    /// One figure that is not a matter of chance.
    pub fn one(key: &str, what: impl Into<String>, unit: &str, value: f64) -> Self {
        Self::median(key, what, unit, vec![value])
    }

    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtLeast(bound));
        self
    }

    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtMost(bound));
        self
    }

    /// Its samples, from the lowest to the highest, where there are several.
    fn rounds(&self) -> String {
        if self.samples.len() < 2 {
            return String::new();
        }
        let samples = self.samples.iter().copied();
        let lowest = samples.clone().fold(f64::INFINITY, f64::min);
        let highest = samples.fold(f64::NEG_INFINITY, f64::max);
        format!("{} to {}", digits(lowest), digits(highest))
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if target.met(self.value) => "yes",
            Some(_) => "**no**",
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Prints a row as it comes.
pub fn say(row: &Row) {
    let target = row.target.map_or_else(String::new, Target::text);
    println!(
        "{:32} {:>9} {:8} {target:16} {}",
        row.key,
        digits(row.value),
        row.unit,
        row.what
    );
}

fn digits(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

/// Adds the rows to the report at `path`, in place of those of the same names that an earlier run left there. All that
/// are in it then.
pub fn merge(path: &Path, rows: Vec<Row>) -> Vec<Row> {
    let before = fs::read(path).unwrap_or_default();
    let before: Value = serde_json::from_slice(&before).unwrap_or_default();
    let mut all: Vec<Row> = serde_json::from_value(before["rows"].clone()).unwrap_or_default();
    for row in rows {
        match all.iter_mut().find(|known| known.key == row.key) {
            Some(known) => *known = row,
            None => all.push(row),
        }
    }
    write(path, &all);
    all
}

/// Replaces the report at `path`.
pub fn write(path: &Path, rows: &[Row]) {
    let values = rows.iter().map(|row| (row.key.clone(), json!(row.value)));
    let mut report: Map<String, Value> = values.collect();
    report.insert("rows".to_owned(), json!(rows));
    let text = serde_json::to_string_pretty(&report).unwrap();
    fs::write(path, text + "\n").unwrap();
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let head = "| Figure | Value | Rounds | Target | Met | What |\n|---|---|---|---|---|---|\n";
    let line = |row: &Row| {
        let target = row.target.map_or_else(String::new, Target::text);
        format!(
            "| `{}` | {} {} | {} | {target} | {} | {} |\n",
            row.key,
            digits(row.value),
            row.unit,
            row.rounds(),
            row.verdict(),
            row.what
        )
    };
    let lines = rows.iter().map(line);
    lines.fold(head.to_owned(), |table, line| table + &line)
}

/// Puts the table into a page, between its marks.
pub fn publish(page: &Path, table: &str) {
    let text = fs::read_to_string(page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    fs::write(page, format!("{before}{BEGIN}\n\n{table}\n{END}{after}")).unwrap();
}

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";
