//! What only root may do: is it allowed, and how is it done?

use std::{io, process::Command};

/// Set: a test that cannot do its work fails instead of being ignored.
const REQUIRED_VARIABLE: &str = "MACHINE_TESTS_REQUIRED";

/// Runs a command to its end. An error carries what it said.
pub fn run(command: &[&str]) -> io::Result<()> {
    let (program, arguments) = command.split_first().unwrap();
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("{}: {}", command.join(" "), said.trim());
    Err(io::Error::other(text))
}

/// Is this process root, and may it use namespaces of this kind, which a try of unshare(1) shows? If not it says so.
pub fn may(what: &str, unshare_flag: &str) -> bool {
    let reason = match (nix::unistd::geteuid().is_root(), unshare_flag) {
        (false, _) => "not root".to_owned(),
        (true, flag) => match run(&["unshare", flag, "true"]) {
            Ok(()) => return true,
            Err(error) => format!("root without the permission: {error}"),
        },
    };
    assert!(
        std::env::var_os(REQUIRED_VARIABLE).is_none(),
        "{REQUIRED_VARIABLE} is set, but {what} is impossible: {reason}"
    );
    println!("IGNORED: needs root ({what}; {reason})");
    false
}

/// May this process mount file systems?
pub fn may_mount() -> bool {
    may("mounting a tmpfs", "--mount")
}

/// May this process make network namespaces?
pub fn may_make_networks() -> bool {
    may("making network namespaces", "--net")
}
