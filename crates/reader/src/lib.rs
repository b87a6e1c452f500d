//! The merchant's side of Warifu: reads codes out of pictures, finds the issuer, asks for the payment and drives it
//! to an answer that can be believed, and pairs the reader with its merchant. For till software and `warifu reader`.
//!
//! Law: nothing here reads a clock, chance, a file or a socket; they come in as inputs and go out as outputs.
//! [`Attempt`] is a loop without IO: `handle(input, now)`, then `poll()` until it gives nothing, doing what each
//! output says in that order. The last one of a round is [`Output::WakeAt`], if there is anything to wake for. Every
//! input is legal in every state: one that makes no sense changes nothing, and none panics. Nobody turns "no answer"
//! into "declined".
//!
//! Start reading at [`Attempt`] (one payment), then [`Pairing`] (once per reader).

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod answer;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod attempt;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod pairing;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod record;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod route;
pub mod scan;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod steady;

pub use answer::Reply;
pub use attempt::{
    Attempt, BeginError, Call, How, Input, Outcome, Output, Progress, REPEAT_PAUSE_MAX_MS,
    REPEAT_PAUSE_MIN_MS, Send, Why,
};
pub use pairing::{PairError, Paired, Pairing};
pub use record::{CODE_DEAD_AFTER_MS, Order, Record, Standing, request_id};
pub use route::{IssuerAt, RouteError};
