//! The merchant's side of Warifu: reads codes out of pictures, finds the issuer, asks for the payment and drives it
//! to an answer that can be believed, and pairs the reader with its merchant. For till software and `warifu reader`.
//!
//! Law: nothing here reads a clock, chance, a file or a socket; they come in as inputs and go out as outputs.
//! [`Attempt`] is a loop without IO: `handle(input, now)`, then `poll()` until it gives nothing, doing what each
//! output says in that order. The last one of a round is [`Output::WakeAt`], if there is anything to wake for. Every
//! input is legal in every state: one that makes no sense changes nothing, and none panics. Nobody turns "no answer"
//! into "declined", and nobody leaves it at that: what has no answer is reversed.
//!
//! Start reading at [`pay`] (one payment as a till maker sees it), then [`Attempt`] (the machine in it), [`change`]
//! (refunds, captures, releases), [`timing`] (every number), and [`Pairing`] (once per reader).
//!
//! A till maker gives a [`Driver`], which is a journal, a network and a clock, and gets the last word by the deadline:
//!
//! ```
//! use warifu_proto::directory::Directory;
//! use warifu_reader::{Driver, Order, Outcome, PayError, pay};
//!
//! async fn sell<D: Driver>(
//!     order: &Order,
//!     directory: &Directory,
//!     driver: &mut D,
//! ) -> Result<&'static str, PayError<D::Error>> {
//!     Ok(match pay(order, directory, driver).await?.outcome {
//!         outcome if outcome.is_paid() => "paid: hand over the goods",
//!         Outcome::Decided(_) => "declined: nothing was paid",
//!         Outcome::Reversed { .. } => "reversed: nothing is paid, take another way",
//!         Outcome::Reversing(_) => "not paid; go on reversing: `Attempt::resume` until it is acknowledged",
//!         Outcome::Refused(_) | Outcome::NotTaken => "nothing was done: try again",
//!         Outcome::Stands(_) => unreachable!("only of what was paid and is taken back"),
//!     })
//! }
//! ```

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod answer;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod attempt;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod call;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
pub mod change;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod drive;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod outcome;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod pairing;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod record;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod route;
pub mod scan;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
mod steady;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
pub mod timing;

pub use answer::Reply;
pub use attempt::Attempt;
pub use call::{Call, Send};
pub use drive::{Driver, Ended, PayError, drive, pay};
pub use outcome::{BeginError, How, Input, Outcome, Output, Progress, UndoError, Why};
pub use pairing::{PairError, Paired, Pairing};
pub use record::{Order, Record, Standing, request_id};
pub use route::{IssuerAt, RouteError};
