//! Decisions as pure functions: what is due, how far the log may be cut, what may be deleted, each with its reason.
//!
//! Nothing here reads a clock, the store or the broker. The callers collect facts, ask, and act on the answer;
//! `explain`-style output comes from the reasons in the answers.

mod compaction;
mod decision;
mod drill;
mod options;
mod pace;
mod retention;

pub use compaction::{CompactionPlan, Debt, NoCut, plan_compaction, truncation_debt};
pub use decision::{Decision, Facts, NotDue, NotMine, ReplicaFacts, Role, Trigger, decide};
pub use drill::{DrillCandidate, choose_drill};
pub use options::{Options, Uploader, VerifyLevel};
pub use pace::Pace;
pub use retention::{Candidate, EvictReason, KeepReason, RetentionPlan, Verdict, plan_retention};
