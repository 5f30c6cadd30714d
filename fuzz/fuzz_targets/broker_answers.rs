//! See `chronik_snapshotd::fuzzing::broker_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_snapshotd::fuzzing::broker_answers(data));
