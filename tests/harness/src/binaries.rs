//! Where the programs are.

use std::{env, path::PathBuf};

use crate::error::HarnessError;

/// Environment variable that names the broker's binary.
const BROKER_VARIABLE: &str = "HARNESS_REFBROKER";
/// Environment variable that names the sidecar's binary.
const SIDECAR_VARIABLE: &str = "HARNESS_SNAPSHOTD";

/// The programs that a cluster consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// `refbroker`.
    pub broker: PathBuf,
    /// `chronik-snapshotd`.
    pub sidecar: PathBuf,
}

impl Binaries {
    /// Named by `HARNESS_REFBROKER` and `HARNESS_SNAPSHOTD`, else beside the running program (or above it: test
    /// programs lie in `deps/`).
    pub fn find() -> Self {
        Self {
            broker: named(BROKER_VARIABLE).unwrap_or_else(|| beside("refbroker")),
            sidecar: named(SIDECAR_VARIABLE).unwrap_or_else(|| beside("chronik-snapshotd")),
        }
    }

    /// Fails with the missing one's name. The sidecar counts only if it is needed.
    pub(crate) fn check(&self, sidecars: bool) -> Result<(), HarnessError> {
        let missing = |name, path: &PathBuf, variable| HarnessError::BinaryMissing {
            name,
            path: path.clone(),
            variable,
        };
        if !self.broker.is_file() {
            return Err(missing("refbroker", &self.broker, BROKER_VARIABLE));
        }
        if sidecars && !self.sidecar.is_file() {
            return Err(missing(
                "chronik-snapshotd",
                &self.sidecar,
                SIDECAR_VARIABLE,
            ));
        }
        Ok(())
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn beside(name: &str) -> PathBuf {
    let mut dir = env::current_exe().unwrap_or_default();
    dir.pop();
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.pop();
    }
    dir.join(name)
}
