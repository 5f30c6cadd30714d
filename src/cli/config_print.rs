//! `config print`: what holds, and why.

use serde_json::{Value, json};

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step, refuse, warn},
    output::{Output, print, table},
};
use crate::config::{
    self, Layer, Setting,
    options::{DefaultValue, TABLE},
};

/// Show every option's effective value and where it comes from. Secrets are masked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Shows the settings even if they are wrong, so that the sources of the faults can be seen.
pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let sources = args.config.sources(context.environment.clone());
    let loaded = config::load(&sources);
    let printed = match args.output {
        Output::Table => {
            let rows = loaded.settings.iter().map(row);
            print(&table(["KEY", "VALUE", "SOURCE"], rows))
        }
        Output::Json => print(&format!("{:#}\n", json(&loaded.settings))),
    };
    warn(&loaded.warnings);
    match loaded.config {
        Ok(_) => Ok(printed),
        Err(error) => Err(refuse(&error)),
    }
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
                Layer::Credential => ("credential", None),
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
