//! The rules: `decide(state, command, now) → fact or refusal`, `apply(state, entry)`. State is a fold of entries; the
//! live path and recovery run the same `apply`.
//!
//! Law: nothing here reads a clock, chance, the environment, a file, a socket or a database. Entries are facts, so
//! `apply` only does arithmetic: replay needs no clock, no time zone and no configuration.
//!
//! Start reading at [`partition::Partition`] (the state), [`entry::Fact`] (what can happen) and [`decide`] (one file
//! a command).
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod account;
mod apply;
mod by_id;
pub mod code_book;
pub mod credential;
pub mod decide;
pub mod entry;
mod id_table;
pub mod layout;
pub mod life;
pub mod limits;
pub mod partition;
pub mod payment;
mod payment_book;
pub mod place;
mod requests;
pub mod snapshot;
pub mod undo;
pub mod vault;

/// Entries and state do not fit together: the journal is damaged, or of another issuer. Nothing may be written after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {sequence} of partition {partition:02} does not fit: {why}")]
pub struct Corrupt {
    /// Which partition.
    pub partition: u8,
    /// Which entry.
    pub sequence: u64,
    /// What does not fit.
    pub why: &'static str,
}
