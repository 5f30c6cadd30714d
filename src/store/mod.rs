//! The object store behind one small, bounded, counted interface.
