//! The server crate from outside: real listeners on free loopback ports, real HTTP.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "it/calls.rs"]
mod calls;
#[path = "it/directory.rs"]
mod directory;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/refusals.rs"]
mod refusals;
#[path = "it/rig.rs"]
mod rig;
#[path = "it/tls.rs"]
mod tls;
