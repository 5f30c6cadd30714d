//! The daemon and its tools.

use std::{env, io};

use chronik_snapshotd::cli::{self, ExitStatus};

/// Large, short-lived blocks fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitStatus {
    cli::main(env::args_os(), env::vars_os(), |_config| {
        let message = "this build has no daemon";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    })
}
