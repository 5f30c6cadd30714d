//! What must hold of any bytes at all: the bodies of the fuzz targets in `fuzz/`, one home for each beside the code
//! that it holds to account. A test here replays the inputs in `fuzz/corpus/`; see fuzz/README.md.
//!
//! Compiled for tests and with the feature `fuzzing` only. Every body panics when a promise is broken.

/// A manifest: strict, and itself again after a round trip.
pub fn manifest(data: &[u8]) {
    crate::format::fuzzing::manifest(data);
}

/// Proofs, identities, quarantine marks, and the names of objects, flags included.
pub fn objects(data: &[u8]) {
    crate::format::fuzzing::objects(data);
}

/// Blocks of every codec, damaged ones too.
pub fn blocks(data: &[u8]) {
    crate::format::fuzzing::blocks(data);
}

/// A manifest with the bytes of its `.snap`: what the reader delivers has its digests.
pub fn snapshot_file(data: &[u8]) {
    crate::pipeline::plane::fuzzing::snapshot_file(data);
}

/// What a broker answers, exports included.
pub fn broker_answers(data: &[u8]) {
    crate::broker::fuzzing::answers(data);
}

/// What brokers and operators ask.
pub fn requests(data: &[u8]) {
    crate::server::fuzzing::requests(data);
}

/// Configuration files and environments.
pub fn configuration(data: &[u8]) {
    crate::config::fuzzing::configuration(data);
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    type Body = fn(&[u8]);
    type Seeds = fn() -> Vec<(&'static str, Vec<u8>)>;

    const TARGETS: [(&str, Body, Seeds); 7] = [
        (
            "manifest",
            manifest,
            crate::format::fuzzing::seeds::manifests,
        ),
        ("objects", objects, crate::format::fuzzing::seeds::objects),
        ("blocks", blocks, crate::format::fuzzing::seeds::blocks),
        (
            "snapshot_file",
            snapshot_file,
            crate::format::fuzzing::seeds::snapshot_files,
        ),
        (
            "broker_answers",
            broker_answers,
            crate::broker::fuzzing::seeds,
        ),
        ("requests", requests, crate::server::fuzzing::seeds),
        (
            "configuration",
            configuration,
            crate::config::fuzzing::seeds,
        ),
    ];
    const INPUTS_MAX: usize = 60;
    const INPUT_MAX_BYTES: usize = 4096;

    fn fuzz_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = fuzz_dir().join("corpus").join(target);
        let entries = fs::read_dir(&folder).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
        paths.into_iter().map(read).collect()
    }

    fn replay(target: &str) {
        let (_, body, seeds) = TARGETS.iter().find(|it| it.0 == target).unwrap();
        let inputs = inputs(target);
        assert!(inputs.len() > 2, "{target} has no corpus");
        assert!(inputs.len() < INPUTS_MAX, "{target}: {}", inputs.len());
        for (path, input) in &inputs {
            assert!(input.len() < INPUT_MAX_BYTES, "{}", path.display());
            println!("{}", path.display());
            body(input);
        }
        for (name, seed) in seeds() {
            let committed = inputs.iter().any(|(_, input)| *input == seed);
            assert!(
                committed,
                "{target}: the seed {name} is missing or another; see fuzz/README.md"
            );
        }
    }

    #[test]
    fn manifests_that_parse_are_themselves_again() {
        replay("manifest");
    }

    #[test]
    fn small_objects_and_names_have_one_spelling() {
        replay("objects");
    }

    #[test]
    fn blocks_come_back_or_are_refused() {
        replay("blocks");
    }

    #[test]
    fn files_that_are_read_have_their_digests() {
        replay("snapshot_file");
    }

    #[test]
    fn answers_of_a_broker_keep_the_rules_or_are_refused() {
        replay("broker_answers");
    }

    #[test]
    fn requests_keep_the_rules_or_are_refused() {
        replay("requests");
    }

    #[test]
    fn configurations_keep_the_rules_and_their_secrets() {
        replay("configuration");
    }

    /// A target without a replay here, or without a program in fuzz/, would go unnoticed.
    #[test]
    fn every_target_is_fuzzed() {
        let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
        let programs = manifest.matches("[[bin]]").count();
        assert_eq!(programs, TARGETS.len());
        for (target, ..) in TARGETS {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            let source = fuzz_dir().join("fuzz_targets").join(format!("{target}.rs"));
            let source = fs::read_to_string(source).unwrap();
            assert!(
                source.contains(&format!("fuzzing::{target}(data)")),
                "{target}"
            );
        }
    }

    /// `cargo test --lib fuzzing -- --ignored` after a format or protocol has changed.
    #[test]
    #[ignore = "writes the seeds into fuzz/corpus"]
    fn write_seeds() {
        for (target, _, seeds) in TARGETS {
            let folder = fuzz_dir().join("corpus").join(target);
            fs::create_dir_all(&folder).unwrap();
            for (name, seed) in seeds() {
                fs::write(folder.join(format!("seed-{name}")), seed).unwrap();
            }
        }
    }
}
