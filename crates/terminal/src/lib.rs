//! The payer's side of Warifu: links a terminal to an account, makes, registers and draws codes, and opens what
//! the issuer has to say or to ask. For the app on a phone, the wallet page's twin in Rust, and `warifu terminal`.
//!
//! Law: nothing here reads a clock, chance, a file or a socket; they come in as inputs and go out as outputs.
//! [`Terminal`] is a loop without IO: `handle(input, now)`, then `poll()` until it gives nothing, doing what
//! each output says in that order. The last one of a round is [`Output::WakeAt`], if there is anything to wake
//! for. Every input is legal in every state: one that makes no sense changes nothing, and none panics.
//!
//! Start reading at [`Linking`] (once per account), then [`Terminal`] (every time the payer pays).

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod link;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod machine;
pub mod picture;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod question;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod steady;

pub use link::{Counters, Link, LinkError, Linking};
pub use machine::{
    Answer, CHANCE_BYTES, CODE_PAUSE_MS, Input, LIFETIME_MIN_S, LONG_AFTER_MS, Output,
    STATEMENTS_MAX, Screen, Terminal, Trouble, VerdictAnswer, Wish,
};
pub use question::{QUESTIONS_MAX, Question};
