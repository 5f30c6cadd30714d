//! See `chronik_snapshotd::fuzzing::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_snapshotd::fuzzing::requests(data));
