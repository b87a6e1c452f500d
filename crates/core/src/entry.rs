//! What can happen: facts, and the bytes of the journal that hold them.
//!
//! ```text
//! entry   u8 kind · u8 version · u8 partition · u64 sequence · u64 at (Unix ms) · fields in the order of their struct
//! ```
//!
//! No name, label or free text, no key in the clear. A kind or version that this program does not know stops the
//! partition instead of being skipped. `tests/corpus` keeps the entries of every release.

use warifu_proto::code::Locator;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::registration::Tag;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

pub(crate) use self::bytes::{
    account_kind_number, capture_number, read_account_kind, read_capture, read_currency,
    read_currency_code, write_currency,
};
use crate::account::AccountStanding;
use crate::life::Change;
use crate::limits::Limits;
use crate::payment::Payment;
use crate::vault::SEAL_BYTES;

mod bytes;

/// One line of a partition's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 0–99.
    pub partition: u8,
    /// Gap-free from 1 within the partition.
    pub sequence: u64,
    /// Never before the previous entry's.
    pub at: Timestamp,
    /// What happened.
    pub fact: Fact,
}

/// An invitation's secret under the vault's key.
pub type SealedSecret = [u8; 32 + SEAL_BYTES];
/// The four link keys under the vault's key.
pub type SealedKeys = [u8; 128 + SEAL_BYTES];
/// Tells a repeated request from a changed one: the first 16 bytes of a SHA-256.
pub type Digest = [u8; 16];

/// What happened. Accounts and credentials are named by their number: the how-manieth of their partition, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An account exists from now on.
    AccountOpened(AccountOpened),
    /// Money came in from outside.
    ToppedUp(ToppedUp),
    /// A terminal may link itself.
    Invited(Invited),
    /// It did.
    Linked(Linked),
    /// A terminal's link ended.
    Unlinked(Unlinked),
    /// A code can be paid with.
    Registered(Registered),
    /// The payer left the screen: all older codes ended.
    Withdrawn(Withdrawn),
    /// A payment was decided: approved, held, to be confirmed by its payer, or declined.
    Decided(Decided),
    /// Something happened to a payment.
    Changed(Box<Changed>),
    /// A payment that has not arrived was reversed: should it arrive, it is declined.
    Tombstone(Tombstone),
    /// An account was frozen, unfrozen or closed.
    AccountStood(AccountStood),
    /// A credential was suspended, or is no longer.
    CredentialStood(CredentialStood),
    /// An account got limits of its own, or has the issuer's again.
    Limited(Limited),
}

/// See [`Fact::AccountOpened`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOpened {
    /// The operator's id of this wish.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// Its id for others.
    pub account: AccountId,
    /// What kind.
    pub kind: AccountKind,
    /// Its currency.
    pub currency: Currency,
    /// What its balance never goes below: 0 or less.
    pub floor_minor: i64,
}

/// See [`Fact::ToppedUp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToppedUp {
    /// The operator's id of this wish.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// Which account.
    pub account_number: u32,
    /// What moved.
    pub legs: Vec<Leg>,
}

/// See [`Fact::Invited`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Its id.
    pub invitation: InvitationId,
    /// For which account.
    pub account_number: u32,
    /// Its secret.
    pub secret: SealedSecret,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// See [`Fact::Linked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// By which invitation, whose secret is forgotten now.
    pub invitation: InvitationId,
    /// The new credential.
    pub credential: CredentialId,
    /// The terminal's public key, x ‖ y.
    pub key: [u8; 64],
    /// What both sides share.
    pub keys: SealedKeys,
}

/// See [`Fact::Unlinked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    /// Which credential.
    pub credential_number: u32,
}

/// See [`Fact::Registered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Whose.
    pub credential_number: u32,
    /// Where it is looked for.
    pub locator: Locator,
    /// The terminal's count.
    pub code_sequence: u32,
    /// Hides the digits.
    pub tag: Tag,
    /// Of the statement.
    pub digest: Digest,
    /// Until when it can be paid with.
    pub expires_at: Timestamp,
    /// Most that it can pay; 0 for any.
    pub cap_minor: u64,
}

/// See [`Fact::Withdrawn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Whose.
    pub credential_number: u32,
    /// The terminal's count.
    pub code_sequence: u32,
    /// Of the statement.
    pub digest: Digest,
}

/// See [`Fact::Decided`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Who is to be paid.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// The reader's id of this attempt.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// How much was asked.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: CurrencyCode,
    /// Where the code was looked for.
    pub locator: Locator,
    /// The day in the issuer's time zone, counted from 1970-01-01.
    pub business_day: u32,
    /// Whether the money was to be taken at once.
    pub capture: Capture,
    /// Approved, held, awaiting its payer or declined.
    pub status: PaymentStatus,
    /// Why it was declined.
    pub rejection: Option<Rejection>,
    /// Until when it is held, or the payer may answer.
    pub expires_at: Option<Timestamp>,
    /// Which registration matched.
    pub matched: Option<Matched>,
    /// The registration itself, when it came inside of a long code and is stored by this.
    pub offline: Option<Offline>,
    /// What moved: only when approved.
    pub legs: Vec<Leg>,
}

/// A registration that came inside of a long code: what [`Decided`] does not say of it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offline {
    /// Hides the digits.
    pub tag: Tag,
    /// Of the statement.
    pub digest: Digest,
    /// Until when it could be paid with.
    pub expires_at: Timestamp,
    /// Most that it can pay; 0 for any.
    pub cap_minor: u64,
}

/// See [`Fact::Changed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What happened.
    pub change: Change,
    /// By which reader; nothing when the payer or time did it.
    pub reader: Option<ReaderId>,
    /// Of a capture or refund: the reader's id of it, and what is compared when it is repeated.
    pub request: Option<(RequestId, Digest)>,
    /// What was taken, given back or set free by it.
    pub amount_minor: u64,
    /// The payment as it stands now, whole: whoever reads this entry needs none before it.
    pub payment: Payment,
    /// What moved.
    pub legs: Vec<Leg>,
    /// The payer's notice about it, counted from 1; 0 for none.
    pub notice_number: u64,
    /// The account's balance afterwards.
    pub balance_minor: i64,
}

/// See [`Fact::Tombstone`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Whose payment.
    pub merchant: MerchantId,
    /// Which reader reversed it.
    pub reader: ReaderId,
    /// The payment's request id.
    pub request: RequestId,
}

/// See [`Fact::AccountStood`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStood {
    /// Which.
    pub account_number: u32,
    /// How it stands now.
    pub standing: AccountStanding,
    /// What is paid out when it is closed.
    pub legs: Vec<Leg>,
}

/// See [`Fact::CredentialStood`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStood {
    /// Which.
    pub credential_number: u32,
    /// Whether it can't pay now.
    pub is_suspended: bool,
}

/// See [`Fact::Limited`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Which account.
    pub account_number: u32,
    /// Its own limits; nothing for the issuer's.
    pub limits: Option<Limits>,
}

/// The registration that a scanned code matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Whose.
    pub credential_number: u32,
    /// Which of its codes.
    pub code_sequence: u32,
    /// The payer's notice about it, counted from 1; 0 for none.
    pub notice_number: u64,
    /// The account's balance afterwards.
    pub balance_minor: i64,
}

/// One movement of money within the partition. The legs of an entry sum to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Whose money.
    pub holder: Holder,
    /// Comes in or goes out.
    pub side: Side,
    /// Minor units of the entry's currency; never 0.
    pub amount_minor: u64,
}

/// Whose money a leg moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A payer's account, by its number.
    Account(u32),
    /// The entry's merchant, in this partition.
    Merchant,
    /// The world outside of the issuer, in this partition.
    World,
}

/// Which way a leg goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The holder has less.
    Debit,
    /// The holder has more.
    Credit,
}
