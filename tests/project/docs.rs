//! The documents say what the code does: tables are compared with the code they describe.
//!
//! `UPDATE_DOCS=1 cargo test --test project` renews them.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use chronik_snapshotd::{
    config::{
        self, Sources,
        options::{DefaultValue, Group, OptionSpec, TABLE, ValueKind},
    },
    telemetry::{
        Metrics,
        families::{FAMILIES, PREFIX},
    },
};

/// Longest line of the example file.
const LINE_MAX_CHARS: usize = 100;

fn document(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares what stands between two lines of a document with `expected`, or writes it there.
fn hold(path: &str, first: &str, last: &str, expected: &str) {
    let path = document(path);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&format!("{first}\n")).unwrap();
    let (found, after) = rest.split_once(&format!("{last}\n")).unwrap();
    if found == expected {
        return;
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        let renewed = format!("{before}{first}\n{expected}{last}\n{after}");
        return fs::write(&path, renewed).unwrap();
    }
    let shown = path.display();
    let lines = found.lines().zip(expected.lines());
    let differs = lines.clone().find(|(found, expected)| found != expected);
    panic!("{shown} is out of date; run `UPDATE_DOCS=1 cargo test --test project`\n{differs:#?}");
}

fn default_text(spec: &OptionSpec) -> String {
    match spec.default {
        DefaultValue::Value(text) => format!("`{text}`"),
        DefaultValue::Unset => "not set".into(),
        DefaultValue::Computed(rule) => rule.into(),
    }
}

fn options_of(group: Group) -> impl Iterator<Item = &'static OptionSpec> {
    TABLE
        .iter()
        .copied()
        .filter(move |spec| spec.group == group)
}

fn options_markdown() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        writeln!(text, "\n## {}\n", group.title()).unwrap();
        text.push_str("| Key | Values | Unit | Default |\n|---|---|---|---|\n");
        for spec in options_of(group) {
            let values = spec.kind.describe();
            let default = default_text(spec);
            writeln!(
                text,
                "| `{}` | {values} | {} | {default} |",
                spec.key, spec.unit
            )
            .unwrap();
        }
        for spec in options_of(group) {
            write!(text, "\n**{}** {}", spec.key, spec.effect).unwrap();
            let interaction = spec.interaction;
            if !interaction.is_empty() {
                write!(text, " {interaction}").unwrap();
            }
            text.push('\n');
        }
    }
    text.push('\n');
    text
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + 1 + word.chars().count() > LINE_MAX_CHARS {
            lines.push(format!("# {word}"));
        } else {
            write!(line, " {word}").unwrap();
        }
    }
    lines.join("\n") + "\n"
}

fn toml_value(spec: &OptionSpec) -> String {
    let text = match spec.default {
        DefaultValue::Value(text) => text,
        DefaultValue::Unset | DefaultValue::Computed(_) => "",
    };
    match spec.kind {
        ValueKind::Switch | ValueKind::Whole { .. } if !text.is_empty() => text.into(),
        _ => format!("{text:?}"),
    }
}

fn example_file() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        writeln!(text, "\n# ==== {} ====", group.title()).unwrap();
        for spec in options_of(group) {
            let mut about = format!("{} {}", spec.effect, spec.interaction);
            write!(about, " Values: {}.", spec.kind.describe()).unwrap();
            if !spec.unit.is_empty() {
                write!(about, " Unit: {}.", spec.unit).unwrap();
            }
            if let DefaultValue::Computed(rule) = spec.default {
                write!(about, " Default: {rule}.").unwrap();
            }
            let about = wrapped(&about);
            let (key, value) = (spec.file_key(), toml_value(spec));
            write!(text, "\n{about}#{key} = {value}\n").unwrap();
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_configuration_reference_is_the_table_of_options() {
    hold(
        "docs/CONFIGURATION.md",
        "<!-- options -->",
        "<!-- /options -->",
        &options_markdown(),
    );
}

#[test]
fn the_example_file_lists_every_option_with_its_default() {
    hold(
        "config/chronik-snapshotd.toml",
        "# <options>",
        "# </options>",
        &example_file(),
    );
}

#[test]
fn the_example_file_changes_nothing_even_with_every_option_written_out() {
    let text = fs::read_to_string(document("config/chronik-snapshotd.toml")).unwrap();
    let is_option =
        |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let options: Vec<&str> = text
        .lines()
        .filter(is_option)
        .map(|line| &line[1..])
        .collect();
    assert_eq!(options.len(), TABLE.len());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, options.join("\n")).unwrap();
    let values = |config_file| {
        let environment = vec![("S3_BUCKET".into(), "b".into())];
        let sources = Sources {
            config_file,
            environment,
            ..Sources::default()
        };
        let loaded = config::load(&sources);
        loaded.config.unwrap();
        let pairs = loaded.settings.into_iter().map(|s| (s.key, s.value));
        pairs.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(values(Some(path)), values(None));
}

fn metrics_markdown() -> String {
    let mut text = String::from(
        "\n| Name | Type | Labels | Unit | Meaning | When to worry |\n|---|---|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            family.name,
            family.kind.as_str(),
            labels.join(", "),
            family.unit,
            family.meaning,
            family.worry,
        )
        .unwrap();
    }
    text.push_str("\n### Label values\n\n| Name | Label | Values |\n|---|---|---|\n");
    for (family, label, values) in label_values() {
        let values: Vec<String> = values.iter().map(|v| format!("`{v}`")).collect();
        writeln!(text, "| `{family}` | `{label}` | {} |", values.join(", ")).unwrap();
    }
    text.push('\n');
    text
}

/// Taken from a fresh page, so that the document lists what is really there.
fn label_values() -> Vec<(&'static str, &'static str, Vec<String>)> {
    let page = Metrics::new().unwrap().render().1;
    let mut found = Vec::new();
    for family in FAMILIES {
        for label in family.labels.iter().filter(|label| **label != "version") {
            let start = format!("{PREFIX}{}", family.name);
            let lines = page.lines().filter(|line| line.starts_with(&start));
            let pattern = format!("{label}=\"");
            let value = |line: &str| {
                let rest = line.split_once(&pattern)?.1;
                Some(rest.split_once('"')?.0.to_owned())
            };
            let mut values: Vec<String> = lines.filter_map(value).collect();
            values.sort();
            values.dedup();
            if !values.is_empty() {
                found.push((family.name, *label, values));
            }
        }
    }
    found
}

#[test]
fn the_metrics_reference_is_the_table_of_families() {
    hold(
        "docs/METRICS.md",
        "<!-- metrics -->",
        "<!-- /metrics -->",
        &metrics_markdown(),
    );
}

#[test]
fn every_family_on_the_page_is_in_the_table_and_the_other_way_round() {
    let metrics = Metrics::new().unwrap();
    let partition = chronik_snapshotd::raft::TopicPartition::new("t", 0).unwrap();
    metrics.set_partition(
        &partition,
        &chronik_snapshotd::telemetry::PartitionSample::default(),
    );
    let (content_type, page) = metrics.render();
    assert_eq!(content_type, "text/plain; version=0.0.4");
    let on_page: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.strip_prefix(PREFIX))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let in_table: BTreeMap<&str, &str> = FAMILIES
        .iter()
        .map(|family| (family.name, family.kind.as_str()))
        .collect();
    assert_eq!(on_page, in_table);
}

/// Every fenced block of docs/CLI.md that has a name is what a test saw: `text {name}` and `json {name}` are the files
/// `tests/examples/cli/{name}.txt` and `.json`.
#[test]
fn the_output_in_the_reference_of_commands_is_real() {
    let path = document("docs/CLI.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut renewed = String::new();
    let (mut rest, mut blocks) = (page.as_str(), 0);
    while let Some((before, after)) = rest.split_once("\n```") {
        let (info, after) = after.split_once('\n').unwrap();
        let (_, after) = after.split_once("```").unwrap();
        let (kind, name) = info.split_once(' ').unwrap();
        let ending = if kind == "json" { "json" } else { "txt" };
        let example = document(&format!("tests/examples/cli/{name}.{ending}"));
        let example = fs::read_to_string(example).unwrap();
        write!(renewed, "{before}\n```{info}\n{example}```").unwrap();
        rest = after;
        blocks += 1;
    }
    renewed.push_str(rest);
    assert!(blocks > 15, "only {blocks} blocks");
    if page == renewed {
        return;
    }
    assert!(
        env::var_os("UPDATE_DOCS").is_some(),
        "docs/CLI.md is out of date; run `UPDATE_DOCS=1 cargo test --test project`"
    );
    fs::write(path, renewed).unwrap();
}

/// The first words of the lines below `Commands:` in a help text.
fn commands_in(help: &str) -> Vec<String> {
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let rest = rest.split("\n\n").next().unwrap();
    let named = rest
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let real = named.filter(|name| *name != "help");
    real.map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_section_and_stands_in_the_readme() {
    let program = env!("CARGO_BIN_EXE_chronik-snapshotd");
    let help = std::process::Command::new(program).arg("--help").output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let page = fs::read_to_string(document("docs/CLI.md")).unwrap();
    let readme = fs::read_to_string(document("README.md")).unwrap();
    let commands = commands_in(&help);
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let heading = match command.as_str() {
            "pin" | "unpin" => "pin and unpin",
            other => other,
        };
        assert!(
            page.contains(&format!("\n## {heading}\n")),
            "docs/CLI.md lacks {command}"
        );
        assert!(
            readme.contains(&format!("`{command}")),
            "README.md lacks {command}"
        );
    }
}

#[test]
fn the_exit_codes_in_the_documents_are_those_of_the_program() {
    for path in ["docs/CLI.md", "docs/CONFIGURATION.md"] {
        let page = fs::read_to_string(document(path)).unwrap();
        let (_, section) = page.split_once("xit codes\n").unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("| 0 "));
        let rows = rows.take_while(|line| line.starts_with("| "));
        let found: Vec<u8> = rows
            .map(|row| row.split('|').nth(1).unwrap().trim().parse().unwrap())
            .collect();
        let codes =
            chronik_snapshotd::cli::ExitStatus::ALL.map(chronik_snapshotd::cli::ExitStatus::code);
        assert_eq!(found, codes, "{path}");
    }
}
