//! `doctor`: what would hurt later.

use std::fmt::Write as _;

use super::{
    Daemon, ExitStatus,
    args::ConfigArgs,
    context::{Context, Step, failed, refuse},
    output::{Output, print, print_json, table},
};
use crate::{
    config,
    tools::{Diagnosis, Doctor, Finding, Level},
};

/// Look at the configuration, the broker and the store, and say what would hurt later.
///
/// The store is tried under a folder of its own, which is removed again. Exits with 1 if anything does not work.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let loaded = config::load(&args.config.sources(context.environment.clone()));
    let config = loaded.config.map_err(|error| refuse(&error))?;
    let warnings = loaded.warnings;
    let told = |error: &D::Error| failed(error, D::kind(error));
    let diagnosis = context.with_abort(async |abort| {
        let daemon = context.daemon;
        let tools = daemon.tools(&config, abort).map_err(|error| told(&error))?;
        let checksummed = daemon.checksummed(&config).map_err(|error| told(&error))?;
        let broker = daemon.broker(&config).map_err(|error| told(&error))?;
        let doctor = Doctor {
            catalog: &tools.catalog,
            checksummed: &checksummed,
            clock: &tools.clock,
        };
        let mut diagnosis = Diagnosis::default();
        diagnosis.configuration(&warnings);
        doctor.broker(&*broker, &mut diagnosis).await;
        let tried = doctor.store(&mut diagnosis).await;
        tried.map_err(|error| failed(&error, error.kind()))?;
        doctor.bucket(&mut diagnosis).await;
        Ok(diagnosis)
    })?;
    let printed = match args.output {
        Output::Json => print_json(&diagnosis),
        Output::Table => print(&text(&diagnosis)),
    };
    if diagnosis.has_errors() {
        return Err(ExitStatus::Failure);
    }
    Ok(printed)
}

fn text(diagnosis: &Diagnosis) -> String {
    let rows = diagnosis.findings.iter().map(row);
    let mut text = table(["RESULT", "AREA", "CHECK", "DETAIL"], rows);
    for one in diagnosis
        .findings
        .iter()
        .filter(|one| one.level != Level::Ok)
    {
        let Finding {
            area,
            check,
            consequence,
            fix,
            ..
        } = one;
        let word = word(one.level);
        let _ = write!(
            text,
            "\n{word}: {area}, {check}\n  consequence: {consequence}\n  fix: {fix}\n"
        );
    }
    text
}

fn row(finding: &Finding) -> [String; 4] {
    [
        word(finding.level).to_owned(),
        finding.area.to_owned(),
        finding.check.to_owned(),
        finding.detail.clone(),
    ]
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Unknown => "unknown",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
    }
}
