//! Tests of the format as a whole.

mod corruption;
mod document;
mod fixture;
mod manifests;
mod round_trips;
