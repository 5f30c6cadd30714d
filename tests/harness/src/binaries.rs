//! Where the programs are.

use std::{env, path::PathBuf};

use crate::error::HarnessError;

/// Environment variable that names the broker's binary.
const BROKER_VARIABLE: &str = "HARNESS_REFBROKER";
/// Environment variable that names the sidecar's binary.
const SIDECAR_VARIABLE: &str = "HARNESS_SNAPSHOTD";

/// Environment variable that names the S3 server's binary.
const S3_SERVER_VARIABLE: &str = "HARNESS_S3_SERVER";

/// The programs that a cluster consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// `refbroker`.
    pub broker: PathBuf,
    /// `chronik-snapshotd`.
    pub sidecar: PathBuf,
    /// `s3-server`.
    pub s3_server: PathBuf,
}

impl Binaries {
    /// Named by `HARNESS_REFBROKER`, `HARNESS_SNAPSHOTD` and `HARNESS_S3_SERVER`, else beside the running program (or above it: test
    /// programs lie in `deps/`).
    pub fn find() -> Self {
        Self {
            broker: named(BROKER_VARIABLE).unwrap_or_else(|| beside("refbroker")),
            sidecar: named(SIDECAR_VARIABLE).unwrap_or_else(|| beside("chronik-snapshotd")),
            s3_server: named(S3_SERVER_VARIABLE).unwrap_or_else(|| beside("s3-server")),
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
