//! The whole system from outside: the built program, every role a process of its own, real HTTP, real files, kill -9.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests: they fail by panicking, and tell a story"
)]

mod agent;
mod ask;
mod confirm;
mod crash;
mod demo;
mod documents;
mod harness;
mod independent;
mod life;
mod offline;
mod pictures;
mod storm;
mod wrong;
