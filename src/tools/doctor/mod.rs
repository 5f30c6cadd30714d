//! Looks for what would hurt later: the broker, the store's permissions and promises, clocks. Every finding has its
//! consequence and its fix.
//!
//! The store is tried under a folder of its own below the prefix, `@doctor/{uuid}/`, which is no topic's; what was
//! written there is removed again.

mod broker;
mod bucket;
mod store;

use serde::Serialize;

use crate::{catalog::Catalog, clock::SharedClock, config::Warning, store::Store};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Unknown,
    /// Works, with a drawback.
    Warning,
    /// Does not work, or is not safe.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `configuration`, `broker` or `store`.
    pub area: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// What was seen.
    pub detail: String,
    /// What follows from it; empty when it is as it should be.
    pub consequence: String,
    /// What to do; empty when nothing.
    pub fix: String,
}

/// Everything that was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Diagnosis {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// True when something does not work.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|one| one.level == Level::Error)
    }

    /// Takes over what the configuration was warned of.
    pub fn configuration(&mut self, warnings: &[Warning]) {
        let area = "configuration";
        for warning in warnings {
            self.findings.push(Finding {
                area,
                check: "options",
                level: Level::Warning,
                detail: warning.to_string(),
                consequence: "see the detail; it holds for as long as the option is set so"
                    .to_owned(),
                fix: "change the option, or accept it".to_owned(),
            });
        }
        if warnings.is_empty() {
            self.ok(
                area,
                "options",
                "every option is legal and nothing is worth a warning".to_owned(),
            );
        }
    }

    fn ok(&mut self, area: &'static str, check: &'static str, detail: String) {
        self.findings.push(Finding {
            area,
            check,
            level: Level::Ok,
            detail,
            consequence: String::new(),
            fix: String::new(),
        });
    }

    fn bad(
        &mut self,
        (area, check, level): (&'static str, &'static str, Level),
        detail: String,
        consequence: &str,
        fix: &str,
    ) {
        self.findings.push(Finding {
            area,
            check,
            level,
            detail,
            consequence: consequence.to_owned(),
            fix: fix.to_owned(),
        });
    }
}

/// What is looked at.
pub struct Doctor<'a> {
    /// The snapshots.
    pub catalog: &'a Catalog,
    /// The same store, sending a checksum with everything that it writes.
    pub checksummed: &'a Store,
    /// Time and unique ids.
    pub clock: &'a SharedClock,
}
