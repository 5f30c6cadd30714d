//! Configuration, parsed once into types that cannot be wrong.

pub mod object_store;
