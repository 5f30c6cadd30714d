//! A person's word before something changes.

use std::io::{self, IsTerminal as _};

use super::{ExitStatus, context::Step};

/// Asks on a terminal; without one only `--yes` will do.
pub(super) fn confirmed(yes: bool) -> Step<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        eprintln!("nothing was changed: nobody can be asked here; add --yes to do it");
        return Err(ExitStatus::Usage);
    }
    eprint!("Type yes to do it: ");
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => {
            eprintln!("nothing was changed");
            Err(ExitStatus::Failure)
        }
    }
}
