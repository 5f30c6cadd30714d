//! Tests of the format as a whole.

mod corruption;
mod document;
pub(super) mod fixture;
mod manifests;
mod plans;
mod round_trips;
