//! Tests of the format as a whole.

mod corruption;
mod document;
pub(super) mod fixture;
mod manifests;
mod round_trips;
