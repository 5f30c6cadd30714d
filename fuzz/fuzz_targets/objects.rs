//! See `chronik_snapshotd::fuzzing::objects`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_snapshotd::fuzzing::objects(data));
