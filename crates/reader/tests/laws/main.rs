//! The laws of the reader's machine: step by step and against nonsense, and in front of a model of an honest issuer behind
//! a network that loses, delays and repeats. The numbers are those of `timing.rs`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod changes;
mod machine;
mod network;
mod shop;
