//! `config print`: what holds, and why.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{ExitStatus, print, refuse, warn};
use crate::config::{
    self, Layer, Setting, Sources,
    options::{DefaultValue, TABLE},
};

/// How to show the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns, for people.
    Table,
    /// One array, for programs.
    Json,
}

/// Shows the settings even if they are wrong, so that the sources of the faults can be seen.
pub(super) fn run(sources: &Sources, output: Output) -> ExitStatus {
    let loaded = config::load(sources);
    let printed = match output {
        Output::Table => print(&table(&loaded.settings)),
        Output::Json => print(&format!("{:#}\n", json(&loaded.settings))),
    };
    warn(&loaded.warnings);
    match loaded.config {
        Ok(_) => printed,
        Err(error) => refuse(&error),
    }
}

fn table(settings: &[Setting]) -> String {
    let rows: Vec<[String; 3]> = settings.iter().map(row).collect();
    let header = ["KEY".to_owned(), "VALUE".to_owned(), "SOURCE".to_owned()];
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([&header])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let (key_width, value_width) = (width(0), width(1));
    let line = |[key, value, source]: &[String; 3]| {
        format!("{key:key_width$}  {value:value_width$}  {source}\n")
    };
    [&header].into_iter().chain(&rows).map(line).collect()
}

fn row(setting: &Setting) -> [String; 3] {
    [
        setting.key.to_owned(),
        setting.value.clone().unwrap_or_else(|| unset(setting.key)),
        setting.source.to_string(),
    ]
}

/// What stands for an option that nobody set: the rule of its default in brackets, or a dash.
fn unset(key: &str) -> String {
    match TABLE
        .iter()
        .find(|spec| spec.key == key)
        .map(|spec| spec.default)
    {
        Some(DefaultValue::Computed(rule)) => format!("({rule})"),
        _ => "-".into(),
    }
}

fn json(settings: &[Setting]) -> Value {
    settings
        .iter()
        .map(|setting| {
            let source = &setting.source;
            let (layer, file) = match &source.layer {
                Layer::Default => ("default", None),
                Layer::File(path) => ("file", Some(path.display().to_string())),
                Layer::Environment => ("environment", None),
                Layer::Flag => ("flag", None),
            };
            let name = (!source.name.is_empty()).then_some(&source.name);
            json!({
                "key": setting.key,
                "value": setting.value,
                "source": { "kind": layer, "name": name, "file": file },
            })
        })
        .collect()
}
