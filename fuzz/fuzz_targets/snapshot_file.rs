//! See `chronik_snapshotd::fuzzing::snapshot_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_snapshotd::fuzzing::snapshot_file(data));
