//! What crosses a screen or a wire: codes, amounts, ids, times, keys, messages, rejections, signatures,
//! and every limit, with encode and decode.
//!
//! Law: nothing here reads a clock, chance, the environment, a file, a socket or a database. Times and
//! random bytes are arguments. (The one exception is inside the cryptographic library: an ECDSA signature
//! draws its own nonce.) Every parser is total: any input gives a value or a named error, never a panic.
//!
//! Start reading at [`code`] (what the payer shows), [`registration`] (what makes it payable) and
//! [`message`] (what the calls carry).
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod base64url;
pub mod code;
pub mod currency;
pub mod directory;
pub mod id;
pub mod key;
pub mod limits;
pub mod link;
pub mod mac;
pub mod message;
pub mod money;
pub mod notice;
pub mod pairing;
pub mod problem;
pub mod registration;
pub mod rejection;
pub mod request_id;
pub mod session;
pub mod signature;
pub mod time;

/// What a fixed layout or text form was refused for. One lower-case sentence, no input echoed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed: {why}")]
pub struct Malformed {
    /// The thing that was being read, such as `code`.
    pub what: &'static str,
    /// What is wrong with it, such as `must be 24 digits`.
    pub why: &'static str,
}

impl Malformed {
    /// Names what was being read and what is wrong with it.
    pub const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}
