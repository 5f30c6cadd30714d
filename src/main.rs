//! The daemon and its tools.

use std::env;

use chronik_snapshotd::{
    app::App,
    cli::{self, ExitStatus},
};

/// Large, short-lived blocks fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitStatus {
    cli::main(env::args_os(), env::vars_os(), &App)
}
