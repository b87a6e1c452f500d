//! Pays: compares what was scanned with what was registered, and decides.
//!
//! Checks run in the order of [`Rejection`]; the first that fails is the answer. A rejection is a fact like any other:
//! it is written, and it binds the request id.

use warifu_proto::code::{Code, Locator};
use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::limits::CONFIRM_LIFETIME_MS;
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::money::Money;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::confirm::stopped;
use super::{Decision, LongCode, Refusal};
use crate::account::Account;
use crate::code_book::BookedCode;
use crate::credential::Usage;
use crate::entry::{Decided, Digest, Fact, Holder, Leg, Matched, Offline, Side};
use crate::limits::Limits;
use crate::partition::{Answered, Partition};

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
    /// The registration that a long code carries.
    pub long_code: Option<LongCode>,
    /// Whether the money is taken at once.
    pub capture: Capture,
    /// When what is held runs out.
    pub hold_until: Timestamp,
    /// The issuer's limits; accounts may have their own.
    pub limits: Limits,
    /// Whether a reversal of it came first, to another partition or long ago.
    pub is_reversed: bool,
    /// Today in the issuer's time zone, counted from 1970-01-01. A payment that waited over midnight behind another
    /// counts to that one's day: a day's payments are a range of sequences.
    pub business_day: u32,
}

/// What comes of a payment, before it is written.
#[derive(Default)]
struct Outcome {
    rejection: Option<Rejection>,
    is_question: bool,
    matched: Option<Matched>,
    offline: Option<Offline>,
    legs: Vec<Leg>,
}

impl Partition {
    pub(super) fn decide_pay(
        &self,
        it: &Pay,
        is_new: bool,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let before = self.remembered(it.merchant, &it.request);
        let was_reversed = before.is_some_and(|it| it.answered == Answered::Tombstone);
        if it.is_reversed || was_reversed {
            return Ok(self.conclude(it, now, Outcome::declined(Rejection::ReversedBeforeArrival)));
        }
        if let Some(repeat) = self.repeat_of(it.merchant, &it.request, &it.digest, is_new)? {
            return Ok(repeat);
        }
        if let Some(rejection) = before_the_code(it, now) {
            return Ok(self.conclude(it, now, Outcome::declined(rejection)));
        }
        let is_ours = it.locator.partition() == self.number();
        let find = || self.codes.find(it.locator.slot(), &it.code, &self.credentials, now);
        // Digits beside the registration of another code are a guess: what fails then must not be an account of the
        // guesser's own, or digits could be tried for nothing.
        let is_carried = |code: &&BookedCode| {
            it.long_code.as_ref().is_none_or(|carried| carried.statement.tag == code.tag)
        };
        let (code, offline) = match (is_ours.then(find).flatten().filter(is_carried), &it.long_code)
        {
            (Some(code), _) => (*code, None),
            (None, Some(long_code)) => match self.carried(long_code, &it.code, now) {
                Ok((code, offline)) => (code, Some(offline)),
                Err(rejection) => return Ok(self.conclude(it, now, Outcome::declined(rejection))),
            },
            // A wrong secret under a live locator waits and is answered like any unknown code.
            (None, None) if now < it.wait_until => return Ok(Decision::Wait),
            (None, None) => {
                return Ok(self.conclude(it, now, Outcome::declined(Rejection::CodeUnknown)));
            }
        };
        let outcome = self.outcome(it, &code, offline, now)?;
        Ok(self.conclude(it, now, outcome))
    }

    /// What comes of a payment by a code that was found.
    fn outcome(
        &self,
        it: &Pay,
        code: &BookedCode,
        offline: Option<Offline>,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let credential =
            self.credential(code.credential_number).ok_or(Refusal::CredentialUnknown)?;
        let account_number = credential.account_number;
        let account = self.account(account_number).ok_or(Refusal::AccountUnknown)?;
        let day = it.business_day.max(self.business_day());
        let payer = Payer {
            account,
            usage: &credential.usage,
            limits: self.limits_of(account_number).unwrap_or(it.limits),
            day,
            is_offline: offline.is_some(),
        };
        let refusal = if offline.is_some() { None } else { code.refusal(now) };
        let rejection = refusal
            .or_else(|| stopped(payer.usage, account))
            .or_else(|| payer.refuses(it, code.cap_minor));
        let consumed = rejection.is_none_or(Rejection::consumes_code);
        let is_question = rejection.is_none() && payer.must_confirm(it.amount.minor());
        let is_approved = rejection.is_none() && !is_question && it.capture == Capture::Now;
        let amount_minor = it.amount.minor();
        let taken = if is_approved { amount_minor } else { 0 };
        let matched = Matched {
            credential_number: code.credential_number,
            code_sequence: code.code_sequence,
            // The payer is told of what became of their code, once; not of every later try with a spent one.
            notice_number: if consumed {
                credential.usage.notice_number.saturating_add(1)
            } else {
                0
            },
            balance_minor: account.balance_minor.saturating_sub_unsigned(taken),
        };
        let holder = Holder::Account(account_number);
        let legs = if is_approved {
            vec![
                Leg { holder, side: Side::Debit, amount_minor },
                Leg { holder: Holder::Merchant, side: Side::Credit, amount_minor },
            ]
        } else {
            Vec::new()
        };
        Ok(Outcome { rejection, is_question, matched: Some(matched), offline, legs })
    }

    fn conclude(&self, it: &Pay, now: Timestamp, outcome: Outcome) -> Decision {
        let (status, expires_at) = match (outcome.rejection, outcome.is_question, it.capture) {
            (Some(_), _, _) => (PaymentStatus::Declined, None),
            (None, true, _) => {
                (PaymentStatus::AwaitingPayer, Some(now.plus_ms(CONFIRM_LIFETIME_MS)))
            }
            (None, false, Capture::Later) => (PaymentStatus::Held, Some(it.hold_until.max(now))),
            (None, false, Capture::Now) => (PaymentStatus::Approved, None),
        };
        Decision::commit(Fact::Decided(Decided {
            merchant: it.merchant,
            reader: it.reader,
            request: it.request.clone(),
            digest: it.digest,
            amount_minor: it.amount.minor(),
            currency: it.amount.currency(),
            locator: it.locator,
            business_day: it.business_day.max(self.business_day()),
            capture: it.capture,
            status,
            rejection: outcome.rejection,
            expires_at,
            matched: outcome.matched,
            offline: outcome.offline,
            legs: outcome.legs,
        }))
    }
}

impl Outcome {
    /// Without a code.
    fn declined(rejection: Rejection) -> Self {
        Self { rejection: Some(rejection), ..Self::default() }
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

/// Who pays, and what they may.
struct Payer<'a> {
    account: &'a Account,
    usage: &'a Usage,
    limits: Limits,
    day: u32,
    is_offline: bool,
}

impl Payer<'_> {
    /// Why the account does not pay this; in order of precedence.
    fn refuses(&self, it: &Pay, cap_minor: u64) -> Option<Rejection> {
        let amount = it.amount.minor();
        let today = self.account.day.on(self.day);
        let is_over = |limit: Option<u64>, sum: u64| limit.is_some_and(|max| sum > max);
        let count_is_over = |limit: Option<u32>, count: u32| limit.is_some_and(|max| count >= max);
        let limits = &self.limits;
        if it.amount.currency() != self.account.currency.code {
            Some(Rejection::CurrencyMismatch)
        } else if cap_minor != 0 && amount > cap_minor {
            Some(Rejection::OverCodeCap)
        } else if is_over(limits.payment_max_minor, amount) {
            Some(Rejection::OverPaymentLimit)
        } else if is_over(limits.day_max_minor, today.spent_minor.saturating_add(amount)) {
            Some(Rejection::OverDailyLimit)
        } else if count_is_over(limits.day_count_max, today.count) {
            Some(Rejection::OverDailyCount)
        } else if self.is_offline
            && (is_over(
                limits.offline_max_minor,
                self.usage.offline_minor.saturating_add(amount),
            ) || count_is_over(limits.offline_count_max, self.usage.offline_count)
                // A terminal without network can't be asked.
                || self.must_confirm(amount))
        {
            Some(Rejection::OverOfflineLimit)
        } else if self.account.covers(amount) {
            None
        } else {
            Some(match self.account.kind {
                AccountKind::Prepaid => Rejection::InsufficientFunds,
                AccountKind::Credit => Rejection::OverCreditLimit,
            })
        }
    }

    fn must_confirm(&self, amount_minor: u64) -> bool {
        let limits = &self.limits;
        limits.confirm_above_minor.is_some_and(|above| amount_minor > above)
            || limits
                .confirm_above_count
                .is_some_and(|above| self.usage.unasked_on(self.day) >= above)
    }
}
