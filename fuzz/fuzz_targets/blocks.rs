//! See `chronik_snapshotd::fuzzing::blocks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_snapshotd::fuzzing::blocks(data));
