//! What the repository says about itself: documents, layering, the table of tests.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod docs;
mod layering;
mod verification;
