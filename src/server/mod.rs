//! What the sidecar serves: Bootstrap for its broker, Admin for operators, health, reflection, and plain HTTP.
//!
//! Wire types end here; everything behind speaks words of the domain.

mod admin;
mod bootstrap;
mod convert;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
mod listen;

pub use admin::AdminService;
pub use bootstrap::{BootstrapOptions, BootstrapService};
pub use http::{HttpState, probe_routes, status_routes};
pub use listen::{ListenError, Listener, bind, bind_http};
