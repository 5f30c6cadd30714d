//! Bytes of the objects in the store: blocks, digests, manifests, proofs, identities. See docs/FORMAT.md.
