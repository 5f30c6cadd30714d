//! `restore`: a snapshot's raw state in files.

use std::path::{Path, PathBuf};

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
    output::size,
    progress,
};
use crate::{
    raft::TopicPartition,
    tools::{ToolError, Which},
};

/// Write a snapshot's raw state into a directory (a file for each part, and the manifest) or into one file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The snapshot's id, or `latest`: the newest proven one that is not quarantined.
    #[arg(value_name = "SNAPSHOT_ID|latest", default_value = "latest")]
    which: Which,

    /// Where to. A path that ends in / or is a directory, or whose name has no ending, is a directory; any other, such as
    /// state.bin, is a file that gets the parts one after the other.
    #[arg(long, value_name = "DIR|FILE")]
    to: PathBuf,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let (partition, which, to) = (&args.partition, args.which, args.to.as_path());
    let done = context.with_tools(&config, async |tools| {
        let snapshot = tools.find(partition, which).await?.snapshot;
        let (total, read) = (snapshot.manifest.raw_bytes(), tools.plane.read.clone());
        let work = async {
            let id = snapshot.id;
            if is_dir(to) {
                let restored = tools.restore_to_dir(&snapshot, to).await?;
                let bytes = size(restored.written_bytes);
                let (written, kept) = (restored.written, restored.kept);
                return Ok::<_, ToolError>(format!(
                    "{id}: {written} parts written ({bytes}), {kept} were there"
                ));
            }
            let bytes = tools.restore_to_file(&snapshot, to).await?;
            Ok(format!("{id}: {} written", size(bytes)))
        };
        progress::shown(total, || read.bytes(), work).await
    })?;
    eprintln!("{done}");
    Ok(ExitStatus::Ok)
}

fn is_dir(to: &Path) -> bool {
    let ends_in_slash = to.as_os_str().as_encoded_bytes().ends_with(b"/");
    ends_in_slash || to.is_dir() || (to.extension().is_none() && !to.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_ending_is_a_directory() {
        for dir in [
            "/no/such/dir/",
            "/no/such/dir",
            "/no/such/a.b/",
            "/tmp",
            ".",
        ] {
            assert!(is_dir(Path::new(dir)), "{dir}");
        }
        for file in ["/no/such/state.bin", "state.raw", "/etc/hostname"] {
            assert!(!is_dir(Path::new(file)), "{file}");
        }
    }
}
