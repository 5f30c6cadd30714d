//! Nothing outlives the harness, however it ends.
//!
//! Dropping a process kills it; that covers returns and panics. For a harness that is killed itself there is one
//! small shell beside it that holds the read end of a pipe and a list of process groups: when the pipe closes, the
//! harness is gone, and the shell kills what is still listed. It runs in its own process group, so Ctrl-C does not
//! reach it before it has done its work.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=""
while read -r op group; do
  rest=""
  for known in $groups; do [ "$known" = "$group" ] || rest="$rest $known"; done
  groups="$rest"
  if [ "$op" = + ]; then groups="$groups $group"; fi
done
for group in $groups; do kill -9 -"$group" 2>/dev/null; done
"#;

static GUARDIAN: LazyLock<Mutex<Option<Child>>> = LazyLock::new(Mutex::default);

/// Puts a process group under guard. Called right after its leader was started.
pub fn watch(group: u32) -> io::Result<()> {
    tell('+', group)
}

/// Takes a process group off the list. Called after its leader was reaped: its number may be given out again.
pub fn forget(group: u32) -> io::Result<()> {
    tell('-', group)
}

fn tell(op: char, group: u32) -> io::Result<()> {
    let mut slot = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner);
    let guardian = match slot.take() {
        Some(running) => slot.insert(running),
        None => slot.insert(start()?),
    };
    let pipe = guardian.stdin.as_mut();
    let pipe = pipe.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    writeln!(pipe, "{op} {group}")?;
    pipe.flush()
}

fn start() -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
