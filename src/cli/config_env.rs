//! `config env`: every option as a line of an environment file.

use std::fmt::Write as _;

use super::{ExitStatus, output::print};
use crate::config::options::{DefaultValue, Group, OptionSpec, SECRET_FILE_SUFFIX, TABLE};

/// Every option, commented out: what is not changed stays the program's default.
pub(super) fn run() -> ExitStatus {
    print(&text())
}

fn text() -> String {
    let mut text = String::from(
        "# Environment of chronik-snapshotd. Remove the # in front of what you change; an empty value is the same as none.\n",
    );
    for group in Group::ALL {
        let _ = writeln!(text, "\n# ==== {} ====", group.title());
        for spec in TABLE.iter().filter(|spec| spec.group == group) {
            text.push_str(&lines(spec));
        }
    }
    text
}

fn lines(spec: &OptionSpec) -> String {
    let unit = match spec.unit {
        "" => String::new(),
        unit => format!(" Unit: {unit}."),
    };
    let (value, rule) = match spec.default {
        DefaultValue::Value(value) => (value, String::new()),
        DefaultValue::Unset => ("", String::new()),
        DefaultValue::Computed(rule) => ("", format!(" Default: {rule}.")),
    };
    let (effect, variable) = (spec.effect, spec.variable());
    let mut lines = format!("# {effect}{unit}{rule}\n#{variable}={value}\n");
    if spec.is_secret() {
        let _ = writeln!(lines, "#{variable}{SECRET_FILE_SUFFIX}=");
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn the_file_with_every_line_in_force_changes_nothing() {
        let variables = text();
        let variables: Vec<_> = variables
            .lines()
            .filter_map(|line| line.strip_prefix("#CHRONIK_SNAPSHOT_")?.split_once('='))
            .map(|(key, value)| (format!("CHRONIK_SNAPSHOT_{key}").into(), value.into()))
            .collect();
        assert!(variables.len() >= TABLE.len());
        let values = |mut environment: Vec<(std::ffi::OsString, std::ffi::OsString)>| {
            environment.push(("S3_BUCKET".into(), "b".into()));
            let loaded = load(&Sources {
                environment,
                ..Sources::default()
            });
            loaded.config.unwrap();
            let pairs = loaded.settings.into_iter().map(|it| (it.key, it.value));
            pairs.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(values(variables), values(Vec::new()));
    }
}
