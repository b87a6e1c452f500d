//! Pays: compares what was scanned with what was registered, and decides.
//!
//! Checks run in the order of [`Rejection`]; the first that fails is the answer. A rejection is a fact like any other:
//! it is written, and it binds the request id.

use warifu_proto::code::{Code, Locator};
use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::message::AccountKind;
use warifu_proto::money::Money;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::{Decision, Refusal};
use crate::account::Account;
use crate::code_book::BookedCode;
use crate::entry::{Decided, Digest, Fact, Holder, Leg, Matched, Side};
use crate::partition::Partition;

/// Whether somebody takes part, by the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Active,
    /// Not now.
    Suspended,
}

/// Wish of a reader to be paid.
#[derive(Debug, Clone)]
pub struct Pay {
    /// Who is to be paid.
    pub merchant: MerchantId,
    /// Whether it takes part.
    pub merchant_standing: Standing,
    /// By which reader.
    pub reader: ReaderId,
    /// Whether it takes part.
    pub reader_standing: Standing,
    /// The reader's id of this attempt.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// What was scanned.
    pub code: Code,
    /// Where to look for it.
    pub locator: Locator,
    /// How much.
    pub amount: Money,
    /// From then on nothing is approved.
    pub deadline_at: Timestamp,
    /// Until then an unknown code waits for its registration.
    pub wait_until: Timestamp,
    /// Today in the issuer's time zone, counted from 1970-01-01. A payment that waited over midnight behind another
    /// counts to that one's day: a day's payments are a range of sequences.
    pub business_day: u32,
}

impl Partition {
    pub(super) fn decide_pay(
        &self,
        it: &Pay,
        is_new: bool,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.repeat_of(it.merchant, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        let decided = |rejection, matched, legs| {
            Decision::commit(Fact::Decided(Decided {
                merchant: it.merchant,
                reader: it.reader,
                request: it.request.clone(),
                digest: it.digest,
                amount_minor: it.amount.minor(),
                currency: it.amount.currency(),
                locator: it.locator,
                business_day: it.business_day.max(self.business_day),
                rejection,
                matched,
                legs,
            }))
        };
        if let Some(rejection) = before_the_code(it, now) {
            return Ok(decided(Some(rejection), None, Vec::new()));
        }
        let is_ours = it.locator.partition() == self.number();
        let find = || self.codes.find(it.locator.slot(), &it.code, &self.credentials, now);
        let Some(code) = is_ours.then(find).flatten() else {
            // A wrong secret under a live locator waits and is answered like any unknown code.
            if now < it.wait_until {
                return Ok(Decision::Wait);
            }
            return Ok(decided(Some(Rejection::CodeUnknown), None, Vec::new()));
        };
        let credential =
            self.credential(code.credential_number).ok_or(Refusal::CredentialUnknown)?;
        let account = self.account(credential.account_number).ok_or(Refusal::AccountUnknown)?;
        let rejection = code.refusal(now).or_else(|| account_refusal(it, code, account));
        let consumed = rejection.is_none_or(Rejection::consumes_code);
        let amount_minor = it.amount.minor();
        let taken =
            if rejection.is_none() { i64::try_from(amount_minor).unwrap_or(i64::MAX) } else { 0 };
        let matched = Matched {
            credential_number: code.credential_number,
            code_sequence: code.code_sequence,
            // The payer is told of what became of their code, once; not of every later try with a spent one.
            notice_number: if consumed {
                credential.usage.notice_number.saturating_add(1)
            } else {
                0
            },
            balance_minor: account.balance_minor.saturating_sub(taken),
        };
        let legs = match rejection {
            Some(_) => Vec::new(),
            None => vec![
                Leg {
                    holder: Holder::Account(credential.account_number),
                    side: Side::Debit,
                    amount_minor,
                },
                Leg { holder: Holder::Merchant, side: Side::Credit, amount_minor },
            ],
        };
        Ok(decided(rejection, Some(matched), legs))
    }
}

fn before_the_code(it: &Pay, now: Timestamp) -> Option<Rejection> {
    if now >= it.deadline_at {
        Some(Rejection::DeadlinePassed)
    } else if it.reader_standing == Standing::Suspended {
        Some(Rejection::ReaderSuspended)
    } else if it.merchant_standing == Standing::Suspended {
        Some(Rejection::MerchantSuspended)
    } else {
        None
    }
}

fn account_refusal(it: &Pay, code: &BookedCode, account: &Account) -> Option<Rejection> {
    if it.amount.currency() != account.currency.code {
        Some(Rejection::CurrencyMismatch)
    } else if code.cap_minor != 0 && it.amount.minor() > code.cap_minor {
        Some(Rejection::OverCodeCap)
    } else if account.covers(it.amount.minor()) {
        None
    } else {
        Some(match account.kind {
            AccountKind::Prepaid => Rejection::InsufficientFunds,
            AccountKind::Credit => Rejection::OverCreditLimit,
        })
    }
}
