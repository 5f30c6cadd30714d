//! What the sidecar serves: Bootstrap for its broker, Admin for operators, health, reflection, and plain HTTP.
//!
//! Wire types end here; everything behind speaks words of the domain.

mod access;
mod admin;
mod bootstrap;
mod connection;
mod convert;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handed;
mod http;
mod incoming;
mod listen;
mod local;
mod mount;
mod page;
mod status;

pub use access::Access;
pub use admin::AdminService;
pub use bootstrap::{BootstrapOptions, BootstrapService};
pub use connection::Connection;
pub use handed::{Handed, HandedError};
pub use http::HttpState;
pub use incoming::{Gate, Incoming};
pub use listen::{ListenError, Listener, bind, bind_http};
pub use mount::{grpc_routes, serve_grpc, serve_http};
