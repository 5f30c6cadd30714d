//! Things between two processes that go wrong on purpose: a TCP link and an HTTP server in between.

mod http;
mod tcp;

pub use self::{
    http::{HttpFault, HttpProxy, Seen},
    tcp::{LinkState, TcpProxy},
};
